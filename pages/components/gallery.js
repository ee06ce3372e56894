// Thumbnails in labelled rows, or wrapping in one group. Tiles that stay between two runs of the page keep their
// node, so that a live gallery does not flicker.

const neighbour = (tiles, current, key) => {
  const at = tiles.indexOf(current)
  if (key === "ArrowRight") return tiles[at + 1]
  if (key === "ArrowLeft") return tiles[at - 1]
  if (key === "Home") return tiles[0]
  if (key === "End") return tiles[tiles.length - 1]
  const here = current.getBoundingClientRect()
  const down = key === "ArrowDown" ? 1 : -1
  const distance = (tile) => {
    const there = tile.getBoundingClientRect()
    return Math.abs(there.top - here.top) * 4 + Math.abs(there.left - here.left)
  }
  const beyond = tiles.filter((tile) => down * (tile.getBoundingClientRect().top - here.top) > here.height / 2)
  return beyond.sort((a, b) => distance(a) - distance(b))[0]
}

const fit = (root, size) => {
  root.style.setProperty("--min", `${size <= 108 ? Math.min(46, size) : Math.round(0.66 * size)}px`)
  root.style.setProperty("--max", `${size}px`)
}

// The head of a column, above each of its cells: where there is no room for columns side by side.
const over = (column) => {
  const words = make("span", `over ${column.tone}`, column.title)
  words.setAttribute("aria-hidden", "true") // the cell's own name says it
  return words
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".root")
  if (!root || !data) return
  const cells = Math.max(1, data.columns.length)
  root.classList.toggle("card", data.card)
  root.style.setProperty("--label", data.labels ? "minmax(92px, 14%)" : "0px")
  root.style.setProperty("--cells", cells)
  if (root._told !== data.size) fit(root, data.size)
  root._told = data.size

  const kept = new Map()
  for (const tile of root.querySelectorAll(".tile")) kept.set(tile.dataset.id, tile)
  const focused = (parentElement.activeElement ?? document.activeElement)?.dataset?.id
  const slider = () =>
    root.querySelector(".sizer") ??
    sizer(root, data, (size) => fit(root, size), (size) => component.setStateValue("size", size))
  const children = []

  if (data.columns.some((column) => column.title)) {
    const head = make("div", "head")
    const corner = make("span", "corner")
    if (data.sizes) corner.append(slider())
    head.append(corner)
    for (const column of data.columns) head.append(make("span", column.tone, column.title))
    children.push(head)
  }
  for (const row of data.rows) {
    const line = make("div", "row")
    const label = make("div", "label")
    if (row.title) label.append(make("div", "title", row.title))
    if (row.note) label.append(make("div", "note", row.note))
    line.append(label)
    row.cells.forEach((tiles, index) => {
      const cell = make("div", "cell")
      cell.setAttribute("role", "group")
      cell.setAttribute("aria-label", [row.title, data.columns[index]?.title].filter(Boolean).join(", ") || data.name)
      cell.style.setProperty("--count", data.labels ? data.count : 1)
      if (data.columns[index]?.title) cell.append(over(data.columns[index]))
      for (const tile of tiles) {
        const old = kept.get(tile.id)
        const same = old && (old.querySelector("img")?.src ?? "") === (tile.src ?? "")
        const button = same ? old : makeTile(tile)
        kept.delete(tile.id)
        refresh(button, tile, data)
        cell.append(button)
      }
      line.append(cell)
    })
    children.push(line)
  }
  if (!data.rows.length) children.push(make("div", "empty", data.empty))
  root.replaceChildren(...children)

  const tiles = [...root.querySelectorAll(".tile")]
  root.classList.toggle("choosing", tiles.some((tile) => tile._tile.chosen))
  const rove = (target) => tiles.forEach((tile) => (tile.tabIndex = tile === target ? 0 : -1))
  const again = tiles.find((tile) => tile.dataset.id === focused)
  rove(again ?? tiles.find((tile) => tile.dataset.id === data.selected) ?? tiles[0])
  if (again) again.focus({ preventScroll: true })

  const toggle = (tile, range) => {
    const on = !tile._tile.chosen
    const from = range ? tiles.findIndex((other) => other.dataset.id === root._anchor) : -1
    const to = tiles.indexOf(tile)
    const reach = from < 0 ? [tile] : tiles.slice(Math.min(from, to), Math.max(from, to) + 1)
    reach.forEach((one) => choose(one, on))
    root._anchor = tile.dataset.id
    root.classList.toggle("choosing", tiles.some((one) => one._tile.chosen))
    setTriggerValue("chose", { ids: reach.map((one) => one.dataset.id), on })
  }
  root.onclick = (event) => {
    const tile = event.target.closest?.(".tile")
    if (!tile || !data.clickable) return
    if (data.choosable && (event.target.closest(".mark") || event.shiftKey || event.ctrlKey || event.metaKey))
      toggle(tile, event.shiftKey)
    else setTriggerValue("picked", tile.dataset.id)
  }
  root.onkeydown = (event) => {
    const tile = event.target.closest?.(".tile")
    if (!tile) return
    if (event.key === " " && data.choosable) {
      event.preventDefault()
      toggle(tile, event.shiftKey)
      return
    }
    if (!/^(Arrow|Home|End)/.test(event.key)) return
    const next = neighbour(tiles, tile, event.key)
    event.preventDefault()
    if (!next) return
    rove(next)
    next.focus()
  }
}
