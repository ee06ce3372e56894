// A list of any length as one scrolling grid: only the tiles in sight exist, and only they are asked for.
// Python sends a window of tiles; `window` says which one is wanted.

const GAP = 8
const MOST = 240 // tiles of one window

const thousands = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f")

class Grid {
  constructor(parent) {
    this.root = parent.querySelector(".root")
    this.tiles = new Map() // place -> tile
    this.nodes = new Map() // place -> node
    this.focus = 0
    this.build()
    this.watch = new ResizeObserver(() => this.data && this.layout())
    this.watch.observe(this.view)
  }

  build() {
    const bar = make("div", "bar")
    const button = (text, title, act) => {
      const node = make("button", "step", text)
      node.type = "button"
      node.title = title
      node.setAttribute("aria-label", title)
      node.onclick = act
      return node
    }
    this.where = make("span", "where")
    this.where.setAttribute("role", "status")
    this.jump = make("input", "jump")
    this.jump.placeholder = "Go to rank or 97.5 %"
    this.jump.setAttribute("aria-label", "Go to a rank, or to a percentile with a percent sign")
    this.jump.onchange = () => this.go(this.jump.value)
    const page = (by) => this.view.scrollBy({ top: by * (this.view.clientHeight - this.line), behavior: "instant" })
    this.tools = make("span", "tools")
    this.steps = [
      button("«", "First image", () => this.to(0)),
      button("‹", "Page back", () => page(-1)),
      button("›", "Page on", () => page(1)),
      button("»", "Last image", () => this.to(this.data.total - 1)),
    ]
    this.tools.append(this.jump, ...this.steps)
    bar.append(this.where, this.tools)
    this.view = make("div", "view")
    this.view.tabIndex = -1
    this.field = make("div", "field")
    this.field.setAttribute("role", "group")
    this.view.append(this.field)
    this.empty = make("div", "empty")
    this.root.replaceChildren(bar, this.view, this.empty)
    this.view.onscroll = () => this.draw()
    this.field.onclick = (event) => this.click(event)
    this.field.onkeydown = (event) => this.key(event)
  }

  update(component) {
    const data = component.data
    const fresh = this.data?.list !== data.list
    this.watch.observe(this.view) // again after the page was left and came back
    const changed = fresh || this.data.version !== data.version
    this.component = component
    this.data = data
    if (changed) this.tiles.clear()
    data.tiles.forEach((tile, i) => this.tiles.set(data.start + i, tile))
    if (!this.size || (this.told !== data.size)) this.size = data.size
    this.told = data.size
    if (!this.slider) {
      const apply = (size) => { const at = this.first(); this.size = size; this.layout(at) }
      this.slider = sizer(this.root, data, apply, (size) => component.setStateValue("size", size))
      this.tools.append(this.slider)
    }
    this.root.classList.toggle("card", data.card)
    this.field.setAttribute("aria-label", data.name)
    this.empty.textContent = data.total ? "" : data.empty
    this.empty.hidden = Boolean(data.total)
    this.view.hidden = !data.total
    if (fresh) {
      this.nodes.forEach((node) => node.remove())
      this.nodes.clear()
      this.focus = data.at
      this.asked = ""
      this.layout(data.at)
    } else this.layout()
  }

  // Columns and heights follow from the width; `at` is the place to keep at the top.
  layout(at) {
    const width = this.view.clientWidth
    if (!width) return
    this.columns = Math.max(1, Math.floor((width + GAP) / (this.size + GAP)))
    this.side = (width - GAP * (this.columns - 1)) / this.columns
    this.line = this.side + GAP
    const height = Math.ceil(this.data.total / this.columns) * this.line
    this.field.style.height = `${height}px`
    this.view.style.height = `${Math.min(height, Math.max(320, 0.72 * window.innerHeight))}px`
    if (at !== undefined) this.view.scrollTop = Math.floor(at / this.columns) * this.line
    this.draw()
  }

  first() {
    return Math.min(this.data.total - 1, Math.round(this.view.scrollTop / this.line) * this.columns)
  }

  draw() {
    const { total } = this.data
    if (!total || !this.line) return
    const top = this.view.scrollTop
    const begin = Math.max(0, Math.floor(top / this.line) * this.columns)
    const end = Math.min(total, Math.ceil((top + this.view.clientHeight) / this.line) * this.columns)
    for (const [place, node] of this.nodes)
      if (place < begin - 2 * this.columns || place >= end + 2 * this.columns) {
        node.remove()
        this.nodes.delete(place)
      } else if (place < begin || place >= end) this.put(place) // near, and perhaps placed for another width
    for (let place = begin; place < end; place++) this.put(place)
    const seen = [begin + 1, Math.min(total, Math.floor((top + this.view.clientHeight + 4) / this.line) * this.columns)]
    this.where.textContent = `${thousands(seen[0])} – ${thousands(Math.max(...seen))} of ${thousands(total)}`
    this.steps.forEach((step, i) => (step.disabled = i < 2 ? top <= 1 : top >= this.view.scrollHeight - this.view.clientHeight - 1))
    this.rove()
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.ask(begin, end), 60)
  }

  put(place) {
    const tile = this.tiles.get(place)
    let node = this.nodes.get(place)
    const id = tile?.id ?? ""
    if (!node || node.dataset.id !== id) {
      const next = tile ? makeTile(tile) : make("div", "tile waiting")
      next.dataset.id = id
      next.dataset.place = place
      const held = node === this.active()
      if (node) node.replaceWith(next)
      else this.field.append(next)
      this.nodes.set(place, next)
      node = next
      if (held && tile) node.focus({ preventScroll: true })
    }
    if (tile) refresh(node, tile, this.data)
    node.style.width = node.style.height = `${this.side}px`
    const x = (place % this.columns) * (this.side + GAP)
    node.style.transform = `translate(${x}px, ${Math.floor(place / this.columns) * this.line}px)`
  }

  ask(begin, end) {
    let missing = false
    for (let place = begin; place < end && !missing; place++) missing = !this.tiles.has(place)
    const screen = Math.max(this.columns, end - begin)
    const start = Math.max(0, begin - Math.min(screen, (MOST - screen) >> 1))
    const count = Math.min(MOST, 3 * screen, this.data.total - start)
    const wanted = `${this.data.list}\n${this.data.version}\n${start}\n${count}`
    if (!missing || wanted === this.asked) return
    this.asked = wanted
    this.component.setStateValue("window", { list: this.data.list, start, count, at: this.first() })
  }

  active() {
    return this.root.getRootNode().activeElement
  }

  rove() {
    for (const [place, node] of this.nodes) node.tabIndex = -1
    const node = this.nodes.get(this.focus) ?? this.nodes.values().next().value
    if (node) node.tabIndex = 0
  }

  to(place, focus = false) {
    const target = Math.min(Math.max(place, 0), this.data.total - 1)
    const y = Math.floor(target / this.columns) * this.line
    const visible = y >= this.view.scrollTop - 1 && y + this.side <= this.view.scrollTop + this.view.clientHeight + 1
    this.focus = target
    if (!focus) this.view.scrollTop = y
    else if (!visible) this.view.scrollTop = y < this.view.scrollTop ? y : y + this.side - this.view.clientHeight
    this.draw()
    if (focus) this.nodes.get(target)?.focus({ preventScroll: true })
  }

  go(text) {
    const number = Number(text.replace(/[\s\u202f,%]/g, "").replace("−", "-"))
    if (!text.trim() || !Number.isFinite(number)) return
    const { total } = this.data
    const share = this.data.descending ? 1 - number / 100 : number / 100
    this.to(text.includes("%") ? Math.round(share * (total - 1)) : Math.round(number) - 1)
    this.jump.value = ""
  }

  click(event) {
    const node = event.target.closest?.(".tile")
    if (!node?._tile || !this.data.clickable) return
    this.focus = Number(node.dataset.place)
    this.rove()
    const marks = event.target.closest(".mark") || event.shiftKey || event.ctrlKey || event.metaKey
    if (this.data.choosable && marks) this.toggle(node, event.shiftKey)
    else this.component.setTriggerValue("picked", node.dataset.id)
  }

  toggle(node, range) {
    const on = !node._tile.chosen
    const place = Number(node.dataset.place)
    const from = range && this.anchor !== undefined ? this.anchor : place
    const [low, high] = [Math.min(from, place), Math.max(from, place)]
    for (let at = low; at <= high; at++) if (this.nodes.get(at)?._tile) choose(this.nodes.get(at), on)
    this.anchor = place
    this.component.setTriggerValue("chose", { list: this.data.list, from: low, to: high, on })
  }

  key(event) {
    const node = event.target.closest?.(".tile")
    if (!node) return
    const place = Number(node.dataset.place)
    const screen = Math.max(1, Math.floor(this.view.clientHeight / this.line)) * this.columns
    const moves = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns,
      PageDown: screen, PageUp: -screen, Home: -place, End: this.data.total - 1 - place,
    }
    if (event.key === " ") {
      event.preventDefault()
      if (node._tile && this.data.choosable) this.toggle(node, event.shiftKey)
    } else if (event.key in moves) {
      event.preventDefault()
      const next = place + moves[event.key]
      if (next >= 0 && next < this.data.total) this.to(next, true)
    }
  }
}

const grids = new WeakMap()

export default function (component) {
  const { data, parentElement } = component
  if (!data || !parentElement.querySelector(".root")) return
  if (!grids.has(parentElement)) grids.set(parentElement, new Grid(parentElement))
  grids.get(parentElement).update(component)
  return () => grids.get(parentElement)?.watch.disconnect()
}
