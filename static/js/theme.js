// Before anything is drawn: the scheme that was chosen here. Without one, the system's.
try {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch { /* storage is off: the system's */ }
