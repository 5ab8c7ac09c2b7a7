"""Settings of an edge's link to its cloud: how it knows the cloud and says who it is."""

from pydantic import Field

from spikebottlenet.config import Settings
from spikebottlenet.listening import file_or_none
from spikebottlenet.rpc.security import ChannelSecurity


class CallingSettings(Settings):
    """Settings of whoever calls a daemon that wants TLS, a certificate or a token."""

    cloud_ca: str = Field(
        "", description="PEM file of the CA that signed the cloud's certificate; '': no TLS"
    )
    cloud_cert: str = Field("", description="PEM file of the certificate shown to the cloud")
    cloud_key: str = Field("", description="PEM file of that certificate's private key")
    cloud_token_file: str = Field("", description="file that holds the token for the cloud alone")
    cloud_insecure: bool = Field(False, description="send the token without TLS")

    def channel_security(self) -> ChannelSecurity:
        """How the link is guarded."""
        return ChannelSecurity(
            ca=file_or_none(self.cloud_ca),
            cert=file_or_none(self.cloud_cert),
            key=file_or_none(self.cloud_key),
            token_file=file_or_none(self.cloud_token_file),
            insecure=self.cloud_insecure,
        )
