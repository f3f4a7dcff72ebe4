import type { NotRecognised, RehearsalDocument } from '../commands/rehearse.ts'
import { reasonOf } from '../reasons.ts'
import { plain, wrap } from '../terminal.ts'
import { amount, away, clock, figure } from '../words.ts'
import type { View } from './view.ts'

const MOST_ALIKE = 20
const NOT_CONVERTED =
  'This deployment converts no photos (CONVERT_PHOTOS is DISABLED): everything but JPEG and PNG up to 15 MB is skipped.'

/** Who of an event will not be recognised: reason by reason, with the words for them. */
export function viewRehearsal(found: RehearsalDocument, { terminal, now }: View): string {
  const { alike, consenting, convert_photos, event_id, name, not_recognised, recognised, starts_at } = found
  const { columns, paint } = terminal
  const start = starts_at === null ? '' : `, starts ${clock(starts_at, now)}, ${away(starts_at, now)}`
  const lines = [
    paint('bold', plain(name ?? '') || '(without a name)'),
    paint('dim', `${event_id}${start}`),
    '',
    consenting === 0
      ? 'Nobody consents to be recognised.'
      : paint(
          recognised === consenting ? 'green' : 'yellow',
          `${figure(recognised)} of ${amount(consenting, 'consenting attendee')} will be recognised (${percent(recognised / consenting)}).`,
        ),
  ]
  if (!convert_photos) lines.push('', wrap(NOT_CONVERTED, columns, 0))
  for (const alikes of byReason(not_recognised)) lines.push('', ...linesOf(alikes, terminal))
  if (alike.length > 0) {
    lines.push('', 'So similar that each may be taken for the other:')
    for (const { user_ids, similarity } of alike.slice(0, MOST_ALIKE))
      lines.push(`  ${user_ids.join('  ')}  ${Math.floor(similarity)}%`)
    if (alike.length > MOST_ALIKE)
      lines.push(`  … and ${amount(alike.length - MOST_ALIKE, 'more pair', 'more pairs')}: --json lists them`)
  }
  return lines.join('\n')
}

/** Those of one reason, and what to tell them. */
function linesOf(alikes: NotRecognised[], { columns, paint }: View['terminal']): string[] {
  const { error = null, reason = null } = alikes[0] ?? {}
  const { title, toAttendee, remedy } = reasonOf(reason)
  const lines = [`${paint('yellow', title)} (${reason}): ${figure(alikes.length)}`]
  if (toAttendee) lines.push(wrap(`Tell them: “${toAttendee}”`, columns, 2))
  else if (remedy) lines.push(wrap(remedy, columns, 2))
  if (error) lines.push(wrap(plain(error), columns, 2))
  return [
    ...lines,
    ...alikes.map(({ name, photo_key, user_id }) =>
      ['   ', user_id, plain(name ?? ''), plain(photo_key ?? '')].filter(Boolean).join('  '),
    ),
  ]
}

/** The most frequent reason first. */
function byReason(left: NotRecognised[]): NotRecognised[][] {
  const groups = new Map<string | null, NotRecognised[]>()
  for (const each of left) groups.set(each.reason, [...(groups.get(each.reason) ?? []), each])
  return [...groups.values()].sort((one, other) => other.length - one.length)
}

/** Rounded down, so that 100 % is everybody. */
const percent = (share: number): string => `${Math.floor(share * 1000) / 10} %`
