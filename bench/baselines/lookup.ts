import { createClient, type WebSocketLikeConstructor } from '@supabase/supabase-js'
import * as z from 'zod'
import type { Stage } from '../stage.ts'

/** What the baselines ask the database. */
export interface Lookup {
  /** Everybody who consents to an event. */
  attendees: (event: string) => Promise<string[]>
  /** The photo of one attendee. */
  photo: (user: string) => Promise<string>
}

/** Makes the baselines' two queries as functions of the database, as cheap as they can be, called through the same API. */
export async function makeLookup({ pool, system }: Stage): Promise<Lookup> {
  await pool.query(`
    create or replace function public.baseline_attendees(event uuid) returns jsonb language sql stable as $$
      select jsonb_agg(user_id) from public.event_consents where event_id = event and allow_recognition $$;
    create or replace function public.baseline_photo(person uuid) returns jsonb language sql stable as $$
      select to_jsonb(photo_path) from public.profiles where user_id = person $$;
    grant select on public.event_consents, public.profiles to service_role;
    grant execute on function public.baseline_attendees, public.baseline_photo to service_role`)
  const supabase = createClient(system.gateway.url, system.gateway.serviceRoleKey, {
    auth: { persistSession: false, autoRefreshToken: false },
    realtime: { transport: class {} as unknown as WebSocketLikeConstructor }, // Node 20 has no WebSocket
  })
  async function call<T>(name: string, args: Record<string, string>, answer: z.ZodType<T>): Promise<T> {
    const { data, error } = await supabase.rpc(name, args)
    if (error) throw new Error(`${name}: ${error.message}`)
    return answer.parse(data)
  }
  return {
    attendees: (event) => call('baseline_attendees', { event }, z.array(z.string())),
    photo: (person) => call('baseline_photo', { person }, z.string()),
  }
}
