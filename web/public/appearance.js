// The chosen theme and language must be known before the first paint: read after it, the page would flash in the other one.
try {
  const chosen = JSON.parse(localStorage.getItem("chatnode.preferences") || "{}");
  if (chosen.theme === "dark" || chosen.theme === "light")
    document.documentElement.dataset.theme = chosen.theme;
} catch {
  // Without storage the system's theme is used.
}
