// The camera: a frame a second, as long as the page is seen.

import { element, put } from './page.js';

const EVERY_MS = 1000;
const LONGEST_SIDE = 512; // of a frame: the head takes far fewer pixels

// `send` takes a blob and resolves once it is answered; `complain` takes a sentence.
export function startCamera(send, complain) {
  const [button, view] = [element('camera'), element('view')];
  let stream = null;
  let timer = 0;

  async function frame() {
    const started = performance.now();
    if (!document.hidden && view.videoWidth) await send(await photograph(view));
    if (stream) timer = setTimeout(frame, Math.max(0, EVERY_MS - (performance.now() - started)));
  }

  async function start() {
    if (!navigator.mediaDevices) {
      complain('The browser gives its camera to pages from https or from this machine only.');
      return;
    }
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: 'environment', width: { ideal: 640 } },
      });
    } catch (error) {
      complain(`No camera: ${error.message}`);
      return;
    }
    view.srcObject = stream;
    await view.play();
    show(true);
    frame();
  }

  function stop() {
    if (!stream) return;
    stream.getTracks().forEach((track) => track.stop());
    stream = null;
    clearTimeout(timer);
    view.srcObject = null;
    show(false);
  }

  function show(on) {
    view.hidden = !on;
    element('seen').hidden = on || element('record').textContent === 'No image yet';
    element('drop-text').hidden = on || !element('seen').hidden;
    button.setAttribute('aria-pressed', String(on));
    put('camera', on ? 'Stop the camera' : 'Use the camera');
  }

  button.addEventListener('click', () => (stream ? stop() : start()));
  return { stop };
}

function photograph(view) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(view.videoWidth, view.videoHeight));
  const canvas = document.createElement('canvas');
  canvas.width = Math.round(scale * view.videoWidth);
  canvas.height = Math.round(scale * view.videoHeight);
  canvas.getContext('2d').drawImage(view, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => {
    canvas.toBlob(resolve, 'image/jpeg', 0.9);
  });
}
