import type { Stage } from './stage.ts'

/** Of the app and of ours; not what depends on the time, nor letters that are kept for an operator. */
const TABLES = [
  'auth.users',
  'public.events',
  'public.profiles',
  'public.event_consents',
  'indexing.event_runs',
  'indexing.face_jobs',
  'indexing.changes',
  'indexing.send_batches',
  'indexing.erasures',
  'indexing.receipts',
  'indexing.receipt_chain',
] as const

const copyOf = (table: string) => `backup."${table}"`

/** Copies the tables as they are at one moment. */
export async function takeBackup({ sql }: Stage): Promise<void> {
  const copies = TABLES.map((table) => `create table ${copyOf(table)} as table ${table};`)
  await sql.query(
    `begin isolation level repeatable read; drop schema if exists backup cascade; create schema backup; ${copies.join(' ')} commit`,
  )
}

/**
 * Puts the copies back in one transaction, as a restore does: no trigger fires.
 * @param meanwhile called while nobody else can see or change a table
 * @throws {DatabaseError} when the tables could not be had within some seconds
 */
export async function restoreBackup({ sql }: Stage, meanwhile: () => void): Promise<void> {
  const client = await sql.connect()
  try {
    await client.query("begin; set local lock_timeout = '3s'; set local session_replication_role = replica")
    await client.query(`truncate ${TABLES.join(', ')}`)
    for (const table of TABLES)
      await client.query(`insert into ${table} overriding system value table ${copyOf(table)}`)
    meanwhile()
    await client.query('commit')
  } catch (error) {
    await client.query('rollback')
    throw error
  } finally {
    client.release()
  }
}
