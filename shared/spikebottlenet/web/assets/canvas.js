// The pictures: the spike raster, the firing-rate map, and the pixels that the head took.

const LABEL_PX = 22; // above each timestep's block
const BLOCK_GAP_PX = 18;
const MARGIN_PX = 64; // at the right: each channel's rate
const LEAST_SITE_PX = 3.4; // a narrower site wraps the timesteps into more rows
const ROW_PX = [5, 15]; // least and most

// A colour of the style sheet, as a canvas takes it.
function colour(name) {
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

// A context in CSS pixels, as sharp as the screen is.
function sharp(canvas, width, height) {
  const density = devicePixelRatio || 1;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  canvas.style.setProperty('height', `${height}px`);
  const context = canvas.getContext('2d');
  context.scale(density, density);
  return context;
}

// Rows are channels; time runs to the right, a block a timestep, its positions in reading order.
// `upTo` timesteps are drawn, the last of them as far as `swept` (0 to 1).
export function drawRaster(canvas, { timesteps, channels, positions }, spikes, upTo, swept) {
  const width = canvas.parentElement.clientWidth;
  const margin = width > 560 ? MARGIN_PX : 0;
  const room = width - margin;
  const fits = (n) => (room - (n - 1) * BLOCK_GAP_PX) / (n * positions) >= LEAST_SITE_PX;
  let across = timesteps;
  while (across > 1 && !fits(across)) across -= 1;
  const down = Math.ceil(timesteps / across);
  const site = (room - (across - 1) * BLOCK_GAP_PX) / (across * positions);
  const row = Math.min(ROW_PX[1], Math.max(ROW_PX[0], 300 / (channels * down)));
  const blockHeight = LABEL_PX + channels * row;
  const height = down * blockHeight + (down - 1) * BLOCK_GAP_PX;
  const pen = sharp(canvas, width, height);
  const [mark, rule, soft] = [colour('--accent'), colour('--rule'), colour('--soft')];
  const markWidth = Math.max(1.2, Math.min(3, 0.42 * site));
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  pen.textBaseline = 'top';

  for (let t = 0; t < timesteps; t += 1) {
    const left = (t % across) * (positions * site + BLOCK_GAP_PX);
    const top = Math.floor(t / across) * (blockHeight + BLOCK_GAP_PX);
    pen.fillStyle = soft;
    pen.fillText(`timestep ${t + 1}`, left, top);
    const shown = spikes && t < upTo ? (t === upTo - 1 ? swept : 1) * positions : 0;
    for (let c = 0; c < channels; c += 1) {
      const y = top + LABEL_PX + c * row;
      for (let p = 0; p < positions; p += 1) {
        const fires = p < shown && spikes.at(t, c, p);
        pen.fillStyle = fires ? mark : rule;
        const [x, tall] = [left + (p + 0.5) * site - markWidth / 2, fires ? row - 2.5 : 1.5];
        pen.fillRect(x, y + (row - tall) / 2, markWidth, tall);
      }
    }
    if (shown && shown < positions) {
      pen.fillStyle = soft;
      pen.fillRect(left + shown * site, top + LABEL_PX, 1, channels * row);
    }
  }
  if (margin) drawChannelRates(pen, spikes, upTo, { left: room + 14, row, channels, soft, rule });
}

function drawChannelRates(pen, spikes, upTo, { left, row, channels, soft, rule }) {
  const length = MARGIN_PX - 14;
  pen.fillStyle = soft;
  pen.fillText('rate', left, 0);
  const rates = spikes && upTo ? spikes.channelRates(upTo) : null;
  for (let c = 0; c < channels; c += 1) {
    const y = LABEL_PX + c * row;
    pen.fillStyle = rule;
    pen.fillRect(left, y + row / 2 - 1, length, 2);
    if (!rates) continue;
    pen.fillStyle = soft;
    pen.fillRect(left, y + row / 2 - 1, Math.max(0.5, rates[c] * length), 2);
  }
}

// The share of channels that fired at each position: paper is `low`, full accent is `high`.
export function drawRates(canvas, { height, width }, rates, { low, high }) {
  const side = canvas.parentElement.clientWidth;
  const tall = (side * height) / width;
  const pen = sharp(canvas, side, tall);
  const [mark, rule] = [colour('--accent'), colour('--faint')];
  const cell = side / width;
  for (let p = 0; p < height * width; p += 1) {
    const x = (p % width) * cell;
    const y = Math.floor(p / width) * cell;
    pen.globalAlpha = 1;
    pen.fillStyle = rule;
    pen.fillRect(x, y, cell - 1, cell - 1);
    if (!rates) continue;
    pen.globalAlpha = high > low ? Math.max(0, (rates[p] - low) / (high - low)) : 0;
    pen.fillStyle = mark;
    pen.fillRect(x, y, cell - 1, cell - 1);
  }
}

// seen: {side, rgb}, rgb base64 of side x side x 3 bytes
export function drawSeen(canvas, { side, rgb }) {
  canvas.width = side;
  canvas.height = side;
  const bytes = atob(rgb);
  const pen = canvas.getContext('2d');
  const image = pen.createImageData(side, side);
  for (let pixel = 0; pixel < side * side; pixel += 1) {
    for (let k = 0; k < 3; k += 1) {
      image.data[4 * pixel + k] = bytes.charCodeAt(3 * pixel + k);
    }
    image.data[4 * pixel + 3] = 255;
  }
  pen.putImageData(image, 0, 0);
}
