import { LineChart } from 'echarts/charts'
import { GridComponent, LegendComponent, MarkLineComponent } from 'echarts/components'
import { init, use } from 'echarts/core'
import { SVGRenderer } from 'echarts/renderers'
import type { Answer } from '../../src/core/contract.ts'
import type { ClaimedEvent, Pace } from '../status.ts'
import { doneOf } from './pages/parts.ts'

use([LineChart, GridComponent, LegendComponent, MarkLineComponent, SVGRenderer])

export type Theme = 'light' | 'dark'

/** Text keeps its size on a phone: the picture is drawn smaller, not shrunk. */
export const SIZES = {
  wide: { width: 720, height: 300, ticks: 5 },
  narrow: { width: 340, height: 260, ticks: 2 },
}
export type Size = keyof typeof SIZES

const THEMES = {
  light: {
    ink: '#1b1f26',
    line: '#d5d9e0',
    done: '#0072b2',
    limit: '#a85000',
    expected: '#00664b',
    start: '#a82a00',
  },
  dark: {
    ink: '#e6e9ee',
    line: '#363c47',
    done: '#56b4e9',
    limit: '#f0a060',
    expected: '#4fd0a5',
    start: '#ff9470',
  },
}

type Point = [time: number, attendees: number]

/** The curve of an event as SVG: attendees done over time, against what the quota allows and against the start. */
export function curveOf(
  event: ClaimedEvent,
  curve: Answer<'curve'>,
  { rate, tps }: Pace,
  now: Date,
  { theme, size }: { theme: Theme; size: Size },
): string {
  const { expected, done: doneColour, ink, limit, line, start } = THEMES[theme]
  const { done, all } = doneOf(event)
  const from = Date.parse(event.claimed_at)
  const ready = event.ready_at === null ? null : Date.parse(event.ready_at)
  const measured: Point[] = [[from, 0], ...curve.map(({ at, ended }): Point => [Date.parse(at), ended])]
  if (done < all) measured.push([now.getTime(), done])
  const allowed = from + (all / tps) * 1000
  const last = Math.max(allowed, measured.at(-1)?.[0] ?? 0)
  // Once all is done the start is far away, and the curve would be a line beside the axis.
  const to = done < all ? Math.max(Date.parse(event.starts_at), ready ?? 0, last) : last
  const { height, ticks, width } = SIZES[size]
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height })
  chart.setOption({
    animation: false,
    textStyle: { color: ink, fontFamily: 'system-ui, sans-serif' },
    legend: { bottom: 0, itemGap: 32, icon: 'roundRect', itemHeight: 4, textStyle: { color: ink } },
    grid: { left: 52, right: 24, top: 32, bottom: size === 'wide' ? 56 : 96 },
    xAxis: {
      type: 'time',
      min: from,
      max: to,
      splitNumber: ticks,
      minInterval: (to - from) / (ticks + 1),
      axisLabel: { color: ink, hideOverlap: true },
    },
    yAxis: {
      type: 'value',
      min: 0,
      max: all,
      minInterval: 1,
      axisLabel: { color: ink },
      splitLine: { lineStyle: { color: line } },
    },
    series: [
      {
        ...lineOf('done', doneColour, measured),
        lineStyle: { width: 2.5 },
        areaStyle: { opacity: 0.15 },
        markLine: {
          symbol: 'none',
          lineStyle: { color: start, type: 'solid', width: 2 },
          label: { formatter: 'start', color: start, position: 'end' },
          data: [{ xAxis: Date.parse(event.starts_at) }],
        },
      },
      lineOf('allowed by the quota', limit, [
        [from, 0],
        [allowed, all],
      ]),
      ...(ready === null || done >= all
        ? []
        : [
            lineOf(`expected at ${Number(rate.toFixed(1))} a second`, expected, [
              [now.getTime(), done],
              [ready, all],
            ]),
          ]),
    ],
  })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}

const lineOf = (name: string, color: string, data: Point[]) => ({
  type: 'line' as const,
  name,
  data,
  color,
  symbol: 'none',
  lineStyle: { width: 1.5, type: 'dashed' as const },
})
