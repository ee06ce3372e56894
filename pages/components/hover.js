// The picture of the dot under the pointer, beneath the label that Plotly draws, and clicks on dots. It listens to a
// chart that stands elsewhere on the page and may come later, or anew.

const held = new WeakMap()

const release = (mine) => {
  mine.chart?.removeListener?.("plotly_hover", mine.show)
  mine.chart?.removeListener?.("plotly_unhover", mine.hide)
  mine.chart?.removeListener?.("plotly_click", mine.click)
  mine.chart = null
}

const place = (box, chart, event) => {
  const label = chart.querySelector(".hoverlayer .hovertext path")?.getBoundingClientRect()
  const left = label ? label.left : (event.event?.clientX ?? 0) + 12
  const below = label ? label.bottom + 4 : (event.event?.clientY ?? 0) + 12
  const side = box.offsetHeight
  const above = (label ? label.top : below - 24) - side - 4
  box.style.left = `${Math.max(4, Math.min(left, window.innerWidth - side - 4))}px`
  box.style.top = `${below + side > window.innerHeight ? above : below}px`
}

const start = (root) => {
  const box = root.querySelector(".jepascore-hover")
  const image = box.querySelector("img")
  box.popover = "manual" // the top layer: no card clips it
  const mine = { data: null, chart: null, tell: () => {} }
  mine.hide = () => box.matches(":popover-open") && box.hidePopover()
  mine.show = (event) => {
    const source = mine.data?.pictures?.[event.points?.[0]?.customdata?.[0]]
    if (!source || !mine.chart) return mine.hide()
    if (image.src !== source) image.src = source
    if (!box.matches(":popover-open")) box.showPopover()
    place(box, mine.chart, event)
  }
  mine.click = (event) => {
    const name = event.points?.[0]?.customdata?.[0]
    if (name !== undefined) mine.tell("clicked", String(name))
  }
  mine.attach = () => {
    const chart = document.querySelector(`.st-key-${CSS.escape(mine.data.chart)} .js-plotly-plot`)
    if (chart === mine.chart || !chart?.on) return
    release(mine)
    mine.hide()
    mine.chart = chart
    chart.on("plotly_hover", mine.show)
    chart.on("plotly_unhover", mine.hide)
    chart.on("plotly_click", mine.click)
  }
  mine.timer = setInterval(() => mine.attach(), 400)
  return mine
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  if (!data || !parentElement.querySelector(".jepascore-hover")) return
  if (!held.has(parentElement)) held.set(parentElement, start(parentElement))
  const mine = held.get(parentElement)
  mine.data = data
  mine.tell = setTriggerValue
  mine.attach()
  return () => {
    clearInterval(mine.timer)
    mine.hide()
    release(mine)
    held.delete(parentElement)
  }
}
