import sharp from 'sharp'
import type { NewAttendee } from '../app.ts'
import type { SeenFace } from './proof.ts'

/** What a person of the group photos does in the story. */
export type Role =
  /** Consents and has a good photo. */
  | 'attends'
  /** Is invited, and does not consent. */
  | 'withholds consent'
  /** Consents, but the upload of the photo has not arrived. */
  | 'photo missing'
  /** Is on a photo, and has nothing to do with the event. */
  | 'not invited'

/** A person of the group photos. */
export interface Person {
  name: string
  role: Role
  /** Where they are on the group photos. They enrol with a picture made from the first. */
  seen: [SeenOn, ...SeenOn[]]
}

export interface SeenOn {
  /** The group photo's name. */
  photo: string
  face: SeenFace
}

/**
 * Gives each face on the group photos a name and a role: at least one of each. Two faces, on the first and the third photo, the
 * engine cannot tell apart, and the photos come without names: they count as one person, who is on two photos.
 */
export function castOf(photos: { name: string; faces: SeenFace[] }[]): Person[] {
  const [first, second, third] = photos
  const roles = new Map<SeenFace | undefined, Role>([
    [second?.faces[1], 'not invited'],
    [second?.faces[2], 'withholds consent'],
    [third?.faces[0], 'photo missing'],
  ])
  const lookAlike = new Map([[third?.faces[1], first?.faces[2]]])
  const people: Person[] = []
  for (const { name: photo, faces } of photos)
    for (const face of faces) {
      const known = people.find(({ seen }) => seen[0].face === lookAlike.get(face))
      if (known) known.seen.push({ photo, face })
      else
        people.push({
          name: `guest ${String(people.length + 1).padStart(2, '0')}`,
          role: roles.get(face) ?? 'attends',
          seen: [{ photo, face }],
        })
    }
  return people
}

/**
 * Another picture of a face than the one on the group photo, as if taken on another day: mirrored, tilted by 5°, darker,
 * softer, and smaller. Returns a JPEG.
 */
export const portraitOf = ({ crop }: SeenFace): Promise<Buffer> =>
  sharp(crop)
    .flop()
    .rotate(5, { background: '#8a8f98' })
    .modulate({ brightness: 0.9, saturation: 0.8 })
    .blur(0.7)
    .resize({ width: 300 })
    .jpeg({ quality: 75 })
    .toBuffer()

/** Attendees whose profiles are as profiles are, beside people with a good photo. */
export async function everydayCases(): Promise<NewAttendee[]> {
  const wall = await sharp({ create: { width: 640, height: 480, channels: 3, background: '#7c9a7e' } })
    .jpeg()
    .toBuffer()
  return [
    { name: 'has no photo' },
    { name: 'shows a wall', photo: wall },
    { name: 'sent a text file', photo: 'This is my photo. Is it not nice?\n' },
    { name: 'has an old URL', photoPath: 'https://old-bucket.example/avatars/7.jpg' },
  ]
}
