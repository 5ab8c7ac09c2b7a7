// The camera: a frame a second, as long as the page is seen.

import { element, put } from './page.js';

const EVERY_MS = 1000;
const LONGEST_SIDE = 512; // of a frame: the head takes far fewer pixels

// `send` takes a blob and resolves once it is answered; `complain` takes a sentence.
export function startCamera(send, complain) {
  const [button, view] = [element('camera'), element('view')];
  let run = null; // what is on or being turned on: its stream, once there is one

  async function frames(mine) {
    while (run === mine) {
      const started = performance.now();
      try {
        const photo = !document.hidden && view.videoWidth ? await photograph(view) : null;
        if (photo && run === mine) await send(photo);
      } catch (error) {
        complain(`No picture: ${error.message}`);
      }
      const rest = Math.max(0, EVERY_MS - (performance.now() - started));
      await new Promise((resolve) => {
        setTimeout(resolve, rest);
      });
    }
  }

  async function start() {
    if (!navigator.mediaDevices) {
      complain('The browser gives its camera to pages from https or from this machine only.');
      return;
    }
    const mine = { stream: null };
    run = mine;
    try {
      mine.stream = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: 'environment', width: { ideal: 640 } },
      });
      if (run !== mine) {
        release(mine); // stopped while the browser asked
        return;
      }
      view.srcObject = mine.stream;
      await view.play();
    } catch (error) {
      if (run !== mine) return;
      stop();
      complain(`No camera: ${error.message}`);
      return;
    }
    if (run !== mine) return;
    show(true);
    frames(mine);
  }

  function stop() {
    if (!run) return;
    release(run);
    run = null;
    view.srcObject = null;
    show(false);
  }

  function release({ stream }) {
    stream?.getTracks().forEach((track) => track.stop());
  }

  function show(on) {
    view.hidden = !on;
    element('seen').hidden = on || element('record').textContent === 'No image yet';
    element('drop-text').hidden = on || !element('seen').hidden;
    button.setAttribute('aria-pressed', String(on));
    put('camera', on ? 'Stop the camera' : 'Use the camera');
  }

  button.addEventListener('click', () => {
    if (!run) start();
    else if (run.stream) stop(); // a second click while the browser asks is one too many
  });
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
