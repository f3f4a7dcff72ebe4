import { LineChart } from 'echarts/charts'
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components'
import { init, use } from 'echarts/core'
import { SVGRenderer } from 'echarts/renderers'

use([LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer])

/** Curves in one frame. */
export interface Picture {
  title: string
  x: Axis
  y: Axis
  curves: Curve[]
}

interface Axis {
  label: string
  /** Its ticks are powers of ten. */
  logarithmic?: boolean
}

export interface Curve {
  name: string
  points: [x: number, y: number][]
  /** A limit or another thing to compare with, rather than something measured. */
  dashed?: boolean
}

const INK = '#333'
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9'] // told apart by everybody (Okabe and Ito)

/** Draws it as the text of an SVG file. */
export function svgOf({ title, x, y, curves }: Picture): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: 860, height: 480 })
  chart.setOption({
    animation: false,
    backgroundColor: '#fff',
    color: COLOURS,
    title: { text: title, left: 20, top: 14, textStyle: { fontSize: 16, color: INK } },
    legend: { bottom: 8, itemGap: 44, data: curves.map(({ name }) => name) },
    grid: { left: 80, right: 40, top: 64, bottom: 84 },
    xAxis: { ...axis(x), nameGap: 30 },
    yAxis: { ...axis(y), nameGap: 56 },
    series: curves.map(({ name, points, dashed }) => ({
      type: 'line',
      name,
      data: points,
      showSymbol: points.length < 20,
      symbolSize: 7,
      lineStyle: { width: dashed ? 1.5 : 2.5, type: dashed ? 'dashed' : 'solid' },
    })),
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}

const axis = ({ label, logarithmic }: Axis) => ({
  type: logarithmic ? ('log' as const) : ('value' as const),
  name: label,
  nameLocation: 'middle' as const,
  nameTextStyle: { color: INK, fontSize: 13 },
  min: logarithmic ? undefined : 0,
})

const MOST_POINTS = 300

/** The same with no more points than the eye can tell apart, for the file of a run. */
export const thinned = (picture: Picture): Picture => ({
  ...picture,
  curves: picture.curves.map((curve) => {
    const step = Math.ceil(curve.points.length / MOST_POINTS)
    const last = curve.points.length - 1
    const points = curve.points
      .filter((_, index) => index % step === 0 || index === last)
      .map(([x, y]): [number, number] => [Number(x.toPrecision(5)), Number(y.toPrecision(5))])
    return { ...curve, points }
  }),
})
