// The cloud's page: who is connected, how full the batches are, what was answered of late.

import { drawBars, drawSparkline } from './bars.js';
import * as format from './format.js';
import { element, put, startPage } from './page.js';

function takeSnapshot(snapshot) {
  const { totals, edges, answers, batches, per_second: perSecond } = snapshot;
  const streams = edges.reduce((sum, edge) => sum + edge.streams, 0);
  showLink(streams);
  showRate(perSecond);
  put('images', format.count(totals.images));
  put('refused', `${format.count(totals.refused)} refused`);
  put('received', format.muchBytes(totals.wire_bytes_up));
  const each = totals.images ? totals.wire_bytes_up / totals.images : 0;
  put('received-note', totals.images ? `${format.bytes(each)} an image, mean` : 'no image yet');
  put('waiting', format.count(snapshot.waiting));
  put('waiting-note', `of ${format.count(snapshot.max_waiting)} places`);
  put('spent', format.muchEnergy(totals.cloud_compute_uj));
  put('spent-note', `${snapshot.device}, from the multiply-accumulates`);
  showEdges(edges);
  showBatches(batches);
  showAnswers(answers);
  fill(element('models'), snapshot.models, (model) => {
    const item = document.createElement('li');
    item.textContent = model;
    return item;
  });
  put('about', `cloud-node ${snapshot.version}. It never sees an image, only spikes.`);
}

function showLink(streams) {
  const link = element('link');
  link.dataset.state = streams ? 'up' : 'opening';
  put('link', streams ? `${format.count(streams)} ${streams === 1 ? 'stream' : 'streams'} open` :
    'No edge connected');
}

function showRate(perSecond) {
  const lately = perSecond.slice(-10);
  const rate = lately.reduce((sum, n) => sum + n, 0) / Math.max(1, lately.length);
  put('rate', rate >= 10 || rate === 0 ? format.count(rate) : rate.toFixed(1));
  put('rate-note', `mean of the last ten seconds; at most ${format.count(Math.max(...perSecond))} ` +
    'in a second of the last two minutes');
  drawSparkline(element('spark-rate'), perSecond, perSecond.length);
}

function showEdges(edges) {
  fill(element('edges').tBodies[0], edges.length ? edges : [null], (edge) =>
    edge === null
      ? row(['None yet', '', '', '', ''])
      : row([
          edge.client,
          format.count(edge.streams),
          format.count(edge.images),
          format.muchBytes(edge.wire_bytes_up),
          edge.quiet_s === null ? 'none yet' : format.since(edge.quiet_s),
        ]),
  );
}

function showAnswers(answers) {
  fill(element('answers').tBodies[0], answers.length ? answers : [null], (answer) =>
    answer === null
      ? row(['None yet', '', '', '', '', ''])
      : row([
          format.words(answer.label),
          format.percent(answer.confidence),
          format.bytes(answer.payload_bytes),
          format.milliseconds(answer.queue_ms),
          format.milliseconds(answer.tail_ms),
          format.since(answer.age_s),
        ]),
  );
}

// batches: [[size, images], ...]
function showBatches(batches) {
  const most = Math.max(1, ...batches.map(([, images]) => images));
  drawBars(
    element('batches'),
    batches.map(([size, images]) => ({
      key: size,
      name: size === 1 ? 'alone' : `${size} together`,
      value: format.count(images),
      share: images / most,
      ours: true,
    })),
  );
  const images = batches.reduce((sum, [, n]) => sum + n, 0);
  const runs = batches.reduce((sum, [size, n]) => sum + n / size, 0);
  put('batches-note', images
    ? `${format.count(runs)} passes of the tail, ${(images / runs).toFixed(1)} images a pass`
    : 'No batch yet');
}

function row(cells) {
  const made = document.createElement('tr');
  made.append(...cells.map((text) => Object.assign(document.createElement('td'), { textContent: text })));
  return made;
}

// Replace what a list holds, unless it says the same already.
function fill(list, entries, make) {
  const fresh = entries.map(make);
  const text = (nodes) => [...nodes].map((node) => node.outerHTML).join('');
  if (text(list.children) !== text(fresh)) list.replaceChildren(...fresh);
}

startPage(takeSnapshot, () => {
  element('link').dataset.state = 'lost';
  put('link', 'This page has lost its cloud-node; trying again');
});
