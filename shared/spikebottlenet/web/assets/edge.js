// The edge's page: one image's way through the network, and all requests by their numbers.

import { ask } from './api.js';
import { drawBars, drawSparkline, drawTicks } from './bars.js';
import { startCamera } from './camera.js';
import { drawRaster, drawRates, drawSeen } from './canvas.js';
import * as format from './format.js';
import { element, onThemeChange, put, startPage } from './page.js';
import { Spikes } from './spikes.js';

const SWEEP_MS = 550; // a timestep
const PLACES = 120; // of a sparkline
const STAGES = ['preprocess', 'head', 'encode', 'network', 'queue', 'tail'];

const still = matchMedia('(prefers-reduced-motion: reduce)');
let shape = null; // [T, C, H, W] of the daemon's first model
let shown = null; // the answer on the page: {record, spikes, forming, ...}
let moment = 0; // which of its moments; the last is the answer
let sweeping = 0; // the running animation's frame, 0 for none
let asked = 0; // classifications begun
let largest = Infinity; // bytes that the daemon takes

// --- one image ---------------------------------------------------------------------------------

async function classify(image) {
  if (image.size > largest) {
    complain(`This file has ${format.bytes(image.size)}, wanted at most ${format.bytes(largest)}.`);
    return false;
  }
  const turn = (asked += 1);
  document.body.dataset.busy = '';
  try {
    const chosen = element('model').hidden ? '' : element('model').value;
    const path = `api/classify?${new URLSearchParams({ model: chosen })}`;
    const response = await ask(path, { method: 'POST', body: image });
    const answer = await response.json();
    if (turn === asked) show(answer);
    return true;
  } catch (error) {
    if (turn === asked) complain(error.message);
    return false;
  } finally {
    if (turn === asked) delete document.body.dataset.busy;
  }
}

function complain(message) {
  element('problem').hidden = false;
  put('problem', message);
}

function show(answer) {
  element('problem').hidden = true;
  const spikes = new Spikes(answer.spikes);
  const rates = spikes.rates(spikes.timesteps);
  shown = { ...answer, spikes, scale: { low: Math.min(...rates), high: Math.max(...rates) } };
  drawSeen(element('seen'), answer.seen);
  if (element('view').hidden) {
    element('seen').hidden = false;
    element('drop-text').hidden = true;
    element('drop').setAttribute('aria-label', 'Drop another image, or choose a file');
  }
  const { record } = shown;
  put('record', JSON.stringify(record, null, 2));
  showBytes(record, answer.sizes);
  showEnergy(record);
  showLatency(record.latency_ms);
  listMoments();
  play();
}

// The moments of a prediction: the exit's after each timestep, then the answer itself.
function moments() {
  const { record, forming } = shown;
  const last = { timesteps: record.timesteps, source: record.source, top5: record.top5 };
  return [...forming, last];
}

const who = (source) => (source === 'cloud' ? 'cloud' : 'edge exit');

function listMoments() {
  const group = element('moments');
  const all = moments();
  group.hidden = false;
  group.querySelectorAll('label').forEach((label) => label.remove());
  all.forEach(({ timesteps, source, top5 }, index) => {
    const label = document.createElement('label');
    const radio = Object.assign(document.createElement('input'), { type: 'radio', name: 'moment' });
    radio.value = index;
    radio.addEventListener('change', () => {
      cancelAnimationFrame(sweeping);
      showMoment(index, 1);
    });
    const isLast = index === all.length - 1;
    const when = Object.assign(document.createElement('span'), { className: 'when' });
    when.textContent = isLast ? `answer, ${who(source)}` : `timestep ${timesteps}, edge exit`;
    const what = Object.assign(document.createElement('span'), { className: 'what' });
    what.textContent = `${format.words(top5[0].label)} ${format.percent(top5[0].probability)}`;
    label.append(radio, when, what);
    group.append(label);
  });
}

// Timestep by timestep, then the answer.
function play() {
  cancelAnimationFrame(sweeping);
  const last = moments().length - 1;
  if (still.matches) {
    showMoment(last, 1);
    announce();
    return;
  }
  const began = performance.now();
  const frame = (now) => {
    const at = Math.max(0, now - began) / SWEEP_MS; // a frame's time may be before the start
    if (at >= last) {
      showMoment(last, 1);
      announce();
      return;
    }
    showMoment(Math.floor(at), at % 1);
    sweeping = requestAnimationFrame(frame);
  };
  sweeping = requestAnimationFrame(frame);
}

function showMoment(index, swept) {
  moment = index;
  const { record, spikes } = shown;
  const all = moments();
  element('moments').dataset.reached = index;
  const { timesteps, source, top5 } = all[index];
  element('moments').querySelectorAll('input')[index].checked = true;
  drawSpikes(swept);
  const rates = spikes.rates(timesteps);
  const [low, high] = [Math.min(...rates), Math.max(...rates)];
  const fired = spikes.count(timesteps);
  put(
    'raster-text',
    `${format.count(fired)} of ${format.count(timesteps * spikes.channels * spikes.positions)} ` +
      `sites fired (${format.percent(fired / (timesteps * spikes.channels * spikes.positions))}) ` +
      `in ${spikes.channels} channels of ${spikes.height} × ${spikes.width}, ` +
      `${timesteps} of ${spikes.timesteps} timesteps. All are sent as ` +
      `${format.bytes(record.payload_bytes)}.`,
  );
  put(
    'rates-text',
    `${format.percent(low)} (pale) to ${format.percent(high)} (full) of the channels fire at a ` +
      `place, over ${timesteps} of ${spikes.timesteps} timesteps.`,
  );
  put('label', format.words(top5[0].label));
  const sure = format.percent(top5[0].probability);
  put(
    'why',
    index === all.length - 1
      ? `${sure} sure, says the ${who(source)}${source === 'cloud' ? '' : ' of this device'}`
      : `${sure} sure after timestep ${timesteps}, says the edge exit`,
  );
  element('label').dataset.final = index === all.length - 1 ? 'yes' : 'no';
  drawBars(
    element('top5'),
    top5.map(({ label, probability }, place) => ({
      key: label,
      name: format.words(label),
      value: format.percent(probability),
      share: probability,
      ours: place === 0,
    })),
  );
}

function announce() {
  const { record } = shown;
  const sure = format.percent(record.confidence);
  put('said', `${format.words(record.label)}, ${sure} sure, from the ${who(record.source)}`);
}

function drawSpikes(swept = 1) {
  const { spikes, scale } = shown ?? {};
  const [timesteps, channels, height, width] = spikes
    ? [spikes.timesteps, spikes.channels, spikes.height, spikes.width]
    : (shape ?? [1, 1, 1, 1]);
  const size = { timesteps, channels, positions: height * width };
  const upTo = spikes ? moments()[moment].timesteps : 0;
  drawRaster(element('raster'), size, spikes, upTo, swept);
  const rates = spikes ? spikes.rates(upTo) : null;
  drawRates(element('rates'), { height, width }, rates, scale ?? { low: 0, high: 1 });
}

// --- what it cost ------------------------------------------------------------------------------

function showBytes(record, sizes) {
  const rows = [
    { key: 'payload', name: 'Spikes', value: record.payload_bytes, ours: true },
    { key: 'wire', name: 'Spikes, on the wire', value: record.wire_bytes_up, ours: true },
    { key: 'jpeg', name: 'JPEG, quality 75', value: sizes.jpeg_q75 },
    { key: 'png', name: 'PNG', value: sizes.png },
    { key: 'raw', name: 'Raw pixels', value: sizes.raw },
  ];
  const most = Math.max(...rows.map((row) => row.value));
  drawBars(
    element('bytes'),
    rows.map((row) => ({ ...row, value: format.bytes(row.value), share: row.value / most })),
  );
  const ratio = sizes.png / record.payload_bytes;
  put('bytes-headline', `${format.bytes(record.payload_bytes)}; a PNG takes ${format.times(ratio)}`);
}

function showEnergy(record) {
  const most = Math.max(
    record.ann_head_uj,
    record.edge_compute_uj,
    record.edge_radio_uj,
    record.cloud_compute_uj,
  );
  const row = (key, name, value, ours) => ({
    key,
    name,
    value: format.microjoules(value),
    share: value / most,
    ours,
  });
  drawBars(element('energy'), [
    row('spiking', 'Spiking head', record.edge_compute_uj, true),
    row('ordinary', 'Same layers, ordinary', record.ann_head_uj, false),
    row('radio', 'Radio, to send', record.edge_radio_uj, true),
    row('cloud', 'Cloud, the rest', record.cloud_compute_uj, false),
  ]);
  const ratio = format.times(record.ann_head_uj / record.edge_compute_uj);
  const spent = format.microjoules(record.edge_compute_uj);
  put('energy-headline', `${spent}; an ordinary head takes ${ratio}`);
}

function showLatency(latency) {
  let from = 0;
  const spent = STAGES.reduce((sum, stage) => sum + latency[stage], 0);
  const whole = Math.max(latency.total, spent, 1e-6);
  const rows = [...STAGES.map((stage) => [stage, latency[stage]])];
  const waited = Math.max(0, latency.total - spent);
  rows.push(['waiting, and the rest', waited]);
  drawBars(
    element('latency'),
    rows.map(([name, ms]) => {
      const row = {
        key: name,
        name: name === 'queue' ? 'queue of the cloud' : name,
        value: format.milliseconds(ms),
        from: from / whole,
        share: ms / whole,
        ours: ['preprocess', 'head', 'encode'].includes(name),
      };
      from += ms;
      return row;
    }),
  );
  put('latency-headline', `${format.milliseconds(latency.total)} in all`);
}

// --- all requests ------------------------------------------------------------------------------

const LINK = {
  up: 'Cloud connected',
  down: 'Cloud away: the edge exit answers',
  opening: 'Connecting to the cloud',
  lost: 'This page has lost its edge-node; trying again',
};

function showLink(state, reason = '') {
  const link = element('link');
  link.dataset.state = state;
  link.title = reason;
  put('link', LINK[state]);
}

function takeSnapshot(snapshot) {
  const { link, totals, recent } = snapshot;
  showLink(link.state, link.reason);
  largest = snapshot.max_image_bytes;
  put('radio', snapshot.radio);
  put('about', `edge-node ${snapshot.version}, model ${snapshot.models.map((model) => model.name).join(', ')}, cloud-node at ` +
    `${snapshot.cloud}. Other clients’ images are never shown here.`);
  if (shape?.join() !== snapshot.shape.join()) {
    shape = snapshot.shape;
    drawSpikes();
  }
  listModels(snapshot.models);
  put('images', format.count(totals.images));
  put(
    'images-note',
    `${format.count(totals.cloud_answers)} by the cloud, ` +
      `${format.count(totals.edge_exit_answers)} by the edge exit, ` +
      `${format.count(totals.refused)} refused`,
  );
  put('sent', format.muchBytes(totals.wire_bytes_up));
  put('spent', format.muchEnergy(totals.edge_compute_uj));
  put('spent-note', `ordinary ${format.muchEnergy(totals.ann_head_uj)}`);
  const line = (id, value) =>
    drawSparkline(element(id), recent.map(value), PLACES);
  const heights = recent.map((request) => (request.source === 'cloud' ? 0.9 : 0.3));
  drawTicks(element('spark-images'), heights, PLACES);
  line('spark-sent', (request) => request.wire_bytes_up);
  line('spark-spent', (request) => request.edge_compute_uj);
  line('spark-pace', (request) => request.total_ms);
  if (!recent.length) return;
  const [ms, bytes] = ['total_ms', 'wire_bytes_up'].map((key) => recent.map((one) => one[key]));
  put('pace', format.milliseconds(format.median(ms)));
  put('pace-note', `median of the last ${recent.length}; 95 % within ` +
    format.milliseconds(format.quantile(ms, 0.95)));
  put('sent-note', `${format.bytes(format.median(bytes))} an image, median of the last ` +
    `${recent.length}`);
}

function listModels(models) {
  const select = element('model');
  select.hidden = models.length < 2;
  const there = [...select.options].map((option) => option.value).join();
  if (there === models.map((model) => model.fingerprint).join()) return;
  select.replaceChildren(
    ...models.map((model) => {
      const option = document.createElement('option');
      option.textContent = model.name;
      option.value = model.fingerprint;
      return option;
    }),
  );
}

// --- where images come from --------------------------------------------------------------------

function startInput() {
  const [drop, file] = [element('drop'), element('file')];
  const take = (files) => {
    if (!files.length) return;
    camera.stop();
    classify(files[0]);
  };
  drop.addEventListener('click', () => file.click());
  file.addEventListener('change', () => {
    take([...file.files]);
    file.value = '';
  });
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    drop.dataset.over = '';
  });
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) delete drop.dataset.over;
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    delete drop.dataset.over;
    take([...(event.dataTransfer?.files ?? [])]);
  });
  document.addEventListener('paste', (event) => take([...(event.clipboardData?.files ?? [])]));
  const camera = startCamera(classify, complain);
}

let width = 0;
new ResizeObserver(() => {
  if (element('main').clientWidth === width) return;
  width = element('main').clientWidth;
  drawSpikes();
}).observe(element('main'));
onThemeChange(() => drawSpikes());
startInput();
startPage(takeSnapshot, (message) => showLink('lost', message));
