// Colours that were chosen here before, set before anything is painted.
(() => {
  try {
    const kept = localStorage.getItem('spikebottlenet-theme');
    if (kept === 'light' || kept === 'dark') document.documentElement.dataset.theme = kept;
  } catch {
    // storage is off: the system's colours
  }
})();
