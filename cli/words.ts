/** A number as people read it: 12,345. */
export const figure = (value: number): string => value.toLocaleString('en-US')

/** "1 attendee", "12 attendees". */
export const amount = (value: number, one: string, many = `${one}s`): string =>
  `${figure(value)} ${value === 1 ? one : many}`

/** This machine's, by which all times are said. */
export const { timeZone } = Intl.DateTimeFormat().resolvedOptions()

const HALF_A_DAY = 12 * 3_600_000

/** A time as 19:00, one that is further than half a day away as Tue 24 Nov 19:00; in this machine's time zone. */
export function clock(time: string | Date, now: Date): string {
  const date = new Date(time)
  const hour = date.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })
  if (Math.abs(date.getTime() - now.getTime()) < HALF_A_DAY) return hour
  const year = date.getFullYear() === now.getFullYear() ? {} : { year: 'numeric' as const }
  const day = date.toLocaleDateString('en-GB', { weekday: 'short', day: 'numeric', month: 'short', ...year })
  return `${day.replace(',', '')} ${hour}`
}

/** A time as `clock` says it, to the second. */
export const clockWithSeconds = (time: string, now: Date): string =>
  clock(time, now).replace(/\d\d:\d\d$/, () => new Date(time).toLocaleTimeString('en-GB'))

/** A time span in its two largest units: 40 s, 12 min, 2 h 10 min, 3 days. */
export function span(ms: number): string {
  const seconds = Math.round(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 60) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return minutes % 60 > 0 ? `${hours} h ${minutes % 60} min` : `${hours} h`
  return amount(Math.round(hours / 24), 'day')
}

/** How far away a time is: "in 12 min", "2 h ago". */
export function away(time: string, now: Date): string {
  const ms = Date.parse(time) - now.getTime()
  return ms >= 0 ? `in ${span(ms)}` : `${span(-ms)} ago`
}

/** An answer that takes longer than this is said to be waited for. */
export const PATIENCE_MS = 3_000
