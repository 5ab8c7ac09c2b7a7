// Lists of labelled bars, and sparklines. Every bar's figure stands beside it as text.

const SVG = 'http://www.w3.org/2000/svg';

// Rows: {key, name, value, share, from = 0, ours = false}; shares are of the track, 0 to 1.
export function drawBars(list, rows) {
  while (list.children.length > rows.length) list.lastElementChild.remove();
  while (list.children.length < rows.length) list.append(newBar());
  rows.forEach((row, index) => {
    const bar = list.children[index];
    bar.dataset.key = row.key ?? row.name;
    bar.classList.toggle('ours', Boolean(row.ours));
    const [name, value, track] = bar.children;
    name.textContent = row.name;
    value.textContent = row.value;
    track.firstElementChild.style.setProperty('--share', row.share.toFixed(4));
    track.firstElementChild.style.setProperty('--from', (row.from ?? 0).toFixed(4));
  });
}

function newBar() {
  const bar = document.createElement('li');
  const name = Object.assign(document.createElement('span'), { className: 'name' });
  const value = Object.assign(document.createElement('span'), { className: 'value' });
  const track = Object.assign(document.createElement('span'), { className: 'track' });
  track.setAttribute('aria-hidden', 'true');
  track.append(document.createElement('span'));
  bar.append(name, value, track);
  return bar;
}

// A line through values, oldest first, from 0 to their largest, in an <svg>.
export function drawSparkline(svg, values, places) {
  const width = Math.max(1, places - 1);
  const top = Math.max(...values, 1e-9);
  svg.setAttribute('viewBox', `0 -0.05 ${width} 1.1`);
  const first = places - values.length;
  const points = values.map((v, i) => `${first + i},${(1 - v / top).toFixed(4)}`);
  const line = part(svg, 'polyline', 'line');
  const area = part(svg, 'polygon', 'area');
  line.setAttribute('points', points.join(' '));
  area.setAttribute(
    'points',
    values.length ? `${first},1 ${points.join(' ')} ${places - 1},1` : '',
  );
}

// A tick a value (a share of the height), oldest first, as many places as there may be.
export function drawTicks(svg, heights, places) {
  svg.setAttribute('viewBox', `-0.5 0 ${places} 1`);
  const first = places - heights.length;
  const path = heights.map((height, i) => `M${first + i} 1V${(1 - height).toFixed(3)}`).join('');
  part(svg, 'path', 'line').setAttribute('d', path);
}

function part(svg, kind, name) {
  const there = svg.querySelector(`.${name}`);
  if (there) return there;
  const made = document.createElementNS(SVG, kind);
  made.setAttribute('class', name);
  made.setAttribute('vector-effect', 'non-scaling-stroke');
  svg.append(made);
  return made;
}
