// Numbers as the pages write them: figures of a record stay in the record's own unit.

const grouped = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export const count = (n) => grouped.format(n);
export const bytes = (n) => `${grouped.format(n)} B`;
export const percent = (p) => `${(100 * p).toFixed(1)} %`;
export const microjoules = (uj) => `${tenths.format(uj)} µJ`;
export const milliseconds = (ms) => `${tenths.format(ms)} ms`;
export const words = (label) => label.replaceAll('_', ' ');
export const times = (ratio) =>
  ratio >= 100 ? `${grouped.format(ratio)}×` : `${tenths.format(ratio)}×`;

function scaled(value, units, step) {
  let place = 0;
  while (value >= step && place < units.length - 1) {
    value /= step;
    place += 1;
  }
  const digits = place === 0 ? 0 : value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[place]}`;
}

export const muchBytes = (n) => scaled(n, ['B', 'kB', 'MB', 'GB', 'TB'], 1000);
export const muchEnergy = (uj) => scaled(uj, ['µJ', 'mJ', 'J', 'kJ'], 1000);

export function since(seconds) {
  if (seconds < 1.5) return 'now';
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return `${Math.round(seconds / 3600)} h ago`;
}

export function median(values) {
  return quantile(values, 0.5);
}

export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
