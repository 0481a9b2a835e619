// The page is whole without this: it only adds the search, and folds the contents on narrow screens.
const search = document.getElementById("search");
const entries = [...document.querySelectorAll("[data-words]")];
search.hidden = false;
search.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const entry of entries) {
    entry.hidden = !words.every((word) => entry.dataset.words.includes(word));
  }
  const isEmpty = entries.every((entry) => entry.hidden);
  document.getElementById("nothing").hidden = !isEmpty || entries.length === 0;
});
if (matchMedia("(max-width: 48rem)").matches) {
  document.querySelector("nav details").open = false;
}
