// A click on a dot of a chart. Streamlit passes on what is brushed, and clicks only where dragging does not brush.

const remove = new WeakMap()
const STILL_PX = 4 // a press that moved further was a drag

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  remove.get(parentElement)?.()
  let pressed = null

  const down = (event) => {
    const plot = event.target.closest?.(`.st-key-${data.within} .js-plotly-plot`)
    pressed = plot && event.button === 0 ? { plot, x: event.clientX, y: event.clientY } : null
  }
  const up = (event) => {
    if (!pressed || Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) > STILL_PX) return
    const dot = (pressed.plot._hoverdata ?? []).find((point) => point.customdata !== undefined)
    if (dot) setTriggerValue("dot", `${dot.data.legendgroup}\n${dot.customdata}`)
  }

  document.addEventListener("pointerdown", down, true)
  document.addEventListener("pointerup", up, true)
  const stop = () => {
    document.removeEventListener("pointerdown", down, true)
    document.removeEventListener("pointerup", up, true)
  }
  remove.set(parentElement, stop)
  return stop
}
