"""The messages of one call that was let in, and the method that answers them.

Every method is served as one that takes a stream, because such a call gets no message before it is
asked for one. A single answer is not served as a stream of them: it goes out together with the
status, and its caller is spared a wait for that.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from spikebottlenet.errors import (
    AuthenticationError,
    DeadlineError,
    RequestError,
    SpikeBottleNetError,
)

Context = grpc.aio.ServicerContext[Any, Any]


class Messages:
    """What comes on a call: it ends if nothing comes at first, or once its token is removed.

    What came before is still answered; then :meth:`check` says why it ended.
    """

    def __init__(
        self, requests: AsyncIterator[Any], *, silent_s: float, valid: Callable[[], bool]
    ) -> None:
        self._requests = requests
        self._silent_s = silent_s
        self._valid = valid
        self._begun = False
        self._cut: SpikeBottleNetError | None = None

    def __aiter__(self) -> "Messages":
        return self

    async def __anext__(self) -> Any:
        if self._cut is not None:
            raise StopAsyncIteration
        if self._begun:
            message = await anext(self._requests)
        else:
            message = await self._first()
        if self._cut is None and not self._valid():
            self._cut = AuthenticationError(
                "the token was removed while the stream was open: ask whoever runs this daemon for "
                "a new one"
            )
        if self._cut is not None:
            raise StopAsyncIteration
        return message

    async def _first(self) -> Any:
        try:
            async with asyncio.timeout(self._silent_s):
                message = await anext(self._requests)
        except TimeoutError:
            self._cut = DeadlineError(
                f"no message came within {self._silent_s:g} s of the call: send one, or raise "
                "silent_s"
            )
            raise StopAsyncIteration from None
        self._begun = True
        return message

    def check(self) -> None:
        """Raise why the messages were cut short, if they were."""
        if self._cut is not None:
            raise self._cut


async def answer_one(handler: Any, messages: Messages, context: Context) -> Any:
    """The answer of a method that has one.

    Raises:
        SpikeBottleNetError: the call was cut short, or its one message never came.
    """
    request = messages if handler.request_streaming else await _only(messages)
    answer = await (handler.unary_unary or handler.stream_unary)(request, context)
    messages.check()
    return answer


async def answer_many(handler: Any, messages: Messages, context: Context) -> None:
    """Run a method that answers with a stream.

    Raises:
        SpikeBottleNetError: the call was cut short, or its one message never came.
    """
    request = messages if handler.request_streaming else await _only(messages)
    await write_all((handler.unary_stream or handler.stream_stream)(request, context), context)
    messages.check()


async def write_all(answers: Any, context: Context) -> None:
    """Have a method write its answers, or write what it yields."""
    if inspect.isawaitable(answers):
        await answers
    else:
        async with aclosing(answers):
            async for answer in answers:
                await context.write(answer)


async def _only(messages: Messages) -> Any:
    async for message in messages:
        return message
    messages.check()
    raise RequestError("the call ended without a message: send one")
