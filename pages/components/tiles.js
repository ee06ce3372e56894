// What rows and grid share: a thumbnail, its marks, selection and keyboard. Prepended to gallery.js and grid.js.
// Text from data only ever becomes textContent or an attribute.

const make = (tag, className, text) => {
  const node = document.createElement(tag)
  if (className) node.className = className
  if (text) node.textContent = text
  return node
}

const makeTile = (tile) => {
  const button = make("button", "tile")
  button.type = "button"
  button.dataset.id = tile.id
  if (tile.src) {
    const image = make("img")
    image.alt = ""
    image.decoding = "async"
    image.draggable = false
    image.src = tile.src
    button.append(image)
  }
  if (tile.name) button.append(make("span", "name", tile.name))
  if (tile.rank) button.append(make("span", "rank", tile.rank))
  if (tile.badge) button.append(make("span", "badge", tile.badge))
  const mark = make("span", "mark")
  mark.title = "Select"
  button.append(mark)
  return button
}

const say = (node, name, text) => {
  if (node.getAttribute(name) !== text) node.setAttribute(name, text)
}

const refresh = (button, tile, data) => {
  for (const name of ["badge", "rank"]) {
    const node = button.querySelector(`.${name}`)
    if (node && node.textContent !== tile[name]) node.textContent = tile[name]
  }
  button.classList.toggle("chosen", Boolean(tile.chosen))
  button._tile = tile
  say(button, "aria-label", tile.chosen ? `${tile.alt}, selected` : tile.alt)
  say(button, "title", tile.tip)
  button.disabled = !data.clickable
  if (tile.id === data.selected) button.setAttribute("aria-current", "true")
  else button.removeAttribute("aria-current")
}

const choose = (button, on) => {
  button._tile.chosen = on
  button.classList.toggle("chosen", on)
  say(button, "aria-label", on ? `${button._tile.alt}, selected` : button._tile.alt)
}

// A slider for the side of the tiles: acts at once, tells Python when it is let go.
const sizer = (root, data, apply, tell) => {
  const input = make("input", "sizer")
  input.type = "range"
  input.min = data.sizes[0]
  input.max = data.sizes[1]
  input.step = 4
  input.value = data.size
  input.title = "Size of the images"
  input.setAttribute("aria-label", "Size of the images, px")
  input.oninput = () => apply(Number(input.value))
  input.onchange = () => tell(Number(input.value))
  return input
}
