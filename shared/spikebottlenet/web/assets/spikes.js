// Spikes [T, C, H, W] as the daemon sends them, and what is counted of them.

export class Spikes {
  // shape: [T, C, H, W]; bits: base64 of the packed sites, first site in the highest bit
  constructor({ shape, bits }) {
    [this.timesteps, this.channels, this.height, this.width] = shape;
    this.positions = this.height * this.width;
    this.sites = this.timesteps * this.channels * this.positions;
    const packed = Uint8Array.from(atob(bits), (letter) => letter.charCodeAt(0));
    this.fired = Uint8Array.from({ length: this.sites }, (_, site) =>
      (packed[site >> 3] >> (7 - (site & 7))) & 1,
    );
  }

  at(timestep, channel, position) {
    return this.fired[(timestep * this.channels + channel) * this.positions + position];
  }

  // Spikes of the first timesteps.
  count(timesteps) {
    const end = timesteps * this.channels * this.positions;
    let sum = 0;
    for (let site = 0; site < end; site += 1) sum += this.fired[site];
    return sum;
  }

  // Spikes a timestep and channel at each position, over the first timesteps: 0 to 1, [H * W].
  rates(timesteps) {
    const sums = new Float64Array(this.positions);
    const end = timesteps * this.channels * this.positions;
    for (let site = 0; site < end; site += 1) sums[site % this.positions] += this.fired[site];
    return sums.map((sum) => sum / (timesteps * this.channels));
  }

  // Spikes a timestep and position of each channel, alike: [C].
  channelRates(timesteps) {
    return Float64Array.from({ length: this.channels }, (_, channel) => {
      let sum = 0;
      for (let t = 0; t < timesteps; t += 1)
        for (let p = 0; p < this.positions; p += 1) sum += this.at(t, channel, p);
      return sum / (timesteps * this.positions);
    });
  }
}
