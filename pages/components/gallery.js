// Thumbnails in rows or in a wrapping grid. Text from data only ever becomes textContent or an attribute.
// Tiles that stay between two runs of the page keep their node, so that a live gallery does not flicker.

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
  if (tile.badge) button.append(make("span", "badge", tile.badge))
  return button
}

const refresh = (button, tile, data) => {
  const badge = button.querySelector(".badge")
  if (badge && badge.textContent !== tile.badge) badge.textContent = tile.badge
  button.setAttribute("aria-label", tile.alt)
  button.title = tile.tip
  button.disabled = !data.clickable
  if (tile.id === data.selected) button.setAttribute("aria-current", "true")
  else button.removeAttribute("aria-current")
}

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

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".root")
  if (!root || !data) return
  const cells = Math.max(1, data.columns.length)
  root.classList.toggle("card", data.card)
  root.style.setProperty("--label", data.labels ? "minmax(92px, 14%)" : "0px")
  root.style.setProperty("--cells", cells)
  root.style.setProperty("--min", `${data.min}px`)
  root.style.setProperty("--max", `${data.max}px`)

  const kept = new Map()
  for (const tile of root.querySelectorAll(".tile")) kept.set(tile.dataset.id, tile)
  const focused = (parentElement.activeElement ?? document.activeElement)?.dataset?.id
  const children = []

  if (data.columns.some((column) => column.title)) {
    const head = make("div", "head")
    head.append(make("span"))
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
      cell.style.setProperty("--count", Math.max(1, data.labels ? data.count : tiles.length))
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
  const rove = (target) => tiles.forEach((tile) => (tile.tabIndex = tile === target ? 0 : -1))
  const again = tiles.find((tile) => tile.dataset.id === focused)
  rove(again ?? tiles.find((tile) => tile.dataset.id === data.selected) ?? tiles[0])
  if (again) again.focus({ preventScroll: true })

  root.onclick = (event) => {
    const tile = event.target.closest?.(".tile")
    if (tile && data.clickable) setTriggerValue("picked", tile.dataset.id)
  }
  root.onkeydown = (event) => {
    const tile = event.target.closest?.(".tile")
    if (!tile || !/^(Arrow|Home|End)/.test(event.key)) return
    const next = neighbour(tiles, tile, event.key)
    event.preventDefault()
    if (!next) return
    rove(next)
    next.focus()
  }
}
