// Calls to the daemon that this page came from: the token, refusals, and the stream of snapshots.

const TOKEN = 'spikebottlenet-token';
const QUIET_MS = 30_000; // the daemon says something every ten seconds
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5_000;

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.set('Authorization', `Bearer ${token}`);
  const response = await fetch(path, { ...options, headers, cache: 'no-store', redirect: 'error' });
  if (response.ok) return response;
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error ?? message;
  } catch {
    // not an answer of ours: its status says enough
  }
  throw new Refused(response.status, message);
}

// Follow a stream of server-sent events for good. EventSource cannot send a token, fetch can.
// `said` hears 'live', 'lost' or 'locked'; after 'locked' the promise that it returns is awaited.
export async function follow(path, take, said) {
  let pause = FIRST_PAUSE_MS;
  for (;;) {
    try {
      await read(path, (snapshot) => {
        pause = FIRST_PAUSE_MS;
        said('live');
        take(snapshot);
      });
      said('lost');
    } catch (error) {
      if (error instanceof Refused && error.status === 401) {
        await said('locked', error.message);
        continue;
      }
      said('lost', error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
}

async function read(path, take) {
  const stop = new AbortController();
  let alarm = setTimeout(() => stop.abort(), QUIET_MS);
  try {
    const response = await ask(path, { signal: stop.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(alarm);
      alarm = setTimeout(() => stop.abort(), QUIET_MS);
      const events = (text + value).split('\n\n');
      text = events.pop();
      for (const event of events) {
        if (event.startsWith('data: ')) take(JSON.parse(event.slice('data: '.length)));
      }
    }
  } finally {
    clearTimeout(alarm);
    stop.abort();
  }
}
