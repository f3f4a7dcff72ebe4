import { describe, expect, it } from 'vitest'
import { MessageError, readMessage, writeMessage } from '../../src/core/message.ts'

const event_id = '0b0c1f2e-3d4c-4b5a-8697-a8b9cadbecfd'
const user_id = '11111111-2222-4333-8444-555555555555'

describe('a message', () => {
  it('carries an attendee and a version through, and nothing else', () => {
    const body = writeMessage({ event_id, user_id, version: 7, photo: 'secret.jpg' } as Parameters<
      typeof writeMessage
    >[0])
    expect(readMessage(body)).toEqual({ event_id, user_id, version: 7 })
    expect(body).not.toContain('secret')
  })

  it('means the same attendee in upper case', () => {
    const body = JSON.stringify({ format: 1, event_id: event_id.toUpperCase(), user_id, version: 1 })
    expect(readMessage(body).event_id).toBe(event_id)
  })

  it('may carry fields that a later version has added', () => {
    const body = JSON.stringify({ format: 1, event_id, user_id, version: 1, hint: 'new' })
    expect(readMessage(body)).toEqual({ event_id, user_id, version: 1 })
  })

  it.each([
    ['is not JSON', 'look again at Bob', /not JSON/],
    ['is empty', '', /not JSON/],
    ['is another kind of JSON', '"hello"', /body/],
    ['is null', 'null', /body/],
    ['is of another system', '{"Records": []}', /format.*event_id.*user_id.*version/],
    ['is of a future format', JSON.stringify({ format: 2, event_id, user_id, version: 1 }), /format/],
    [
      'has an id that is no uuid',
      JSON.stringify({ format: 1, event_id: '42', user_id, version: 1 }),
      /event_id/,
    ],
    ['has a version below 1', JSON.stringify({ format: 1, event_id, user_id, version: 0 }), /version/],
    [
      'has a version that is no integer',
      JSON.stringify({ format: 1, event_id, user_id, version: 1.5 }),
      /version/,
    ],
    ['is 256 KB of something else', 'x'.repeat(256 * 1024), /not JSON/],
  ])('is refused, with what is wrong, when it %s', (_, body, problem) => {
    expect(() => readMessage(body)).toThrow(MessageError)
    expect(() => readMessage(body)).toThrow(problem)
  })
})
