// What both pages have: the token wall, the choice of colours, a word on the daemon itself.

import { follow, keepToken } from './api.js';

const THEMES = ['auto', 'light', 'dark'];
const themed = new EventTarget();

export const element = (id) => document.getElementById(id);

export function put(id, text) {
  const there = element(id);
  if (there.textContent !== text) there.textContent = text;
}

// Call `redraw` when colours change: canvases hold the old ones.
export function onThemeChange(redraw) {
  themed.addEventListener('change', redraw);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
}

function theme() {
  return document.documentElement.dataset.theme ?? 'auto';
}

function startTheme() {
  const button = element('theme');
  const say = () => {
    button.textContent = { auto: 'Auto', light: 'Light', dark: 'Dark' }[theme()];
    button.setAttribute('aria-label', `Colours: ${theme()}. Change.`);
  };
  button.addEventListener('click', () => {
    const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
    if (next === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem('spikebottlenet-theme', next);
    } catch {
      // storage is off: kept for as long as the page is open
    }
    say();
    themed.dispatchEvent(new Event('change'));
  });
  say();
}

// Show the wall until a token is given; resolves then.
export function askForToken(message) {
  const form = element('wall-form');
  const field = element('token');
  const again = field.value !== '';
  put('wall-reason', again ? message : '');
  document.body.dataset.locked = '';
  element('wall').hidden = false;
  field.value = '';
  field.focus();
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      if (!field.value.trim()) return;
      keepToken(field.value.trim());
      resolve();
    };
  });
}

function unlock() {
  if (element('wall').hidden) return;
  element('wall').hidden = true;
  element('token').value = '';
  delete document.body.dataset.locked;
  element('main').focus({ preventScroll: true });
}

// Follow the daemon's snapshots; `lost` is told when there are none.
export function startPage(take, lost) {
  startTheme();
  follow('api/live', take, (state, message) => {
    if (state === 'locked') return askForToken(message);
    if (state === 'live') unlock();
    else lost(message);
    return undefined;
  });
}
