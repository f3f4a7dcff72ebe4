-- The app's own tables, as they are before this system's migrations: events, who attends them, and their profiles.

create type public.event_processing_status as enum ('pending', 'in_progress', 'completed', 'failed');

create table public.events (
  event_id        uuid primary key default gen_random_uuid(),
  name            text,
  starts_at       timestamptz,
  ends_at         timestamptz,
  is_active       boolean default true,
  created_by      uuid,
  indexing_status public.event_processing_status default 'pending',
  cleanup_status  public.event_processing_status default 'pending'
);

create table public.profiles (
  user_id    uuid primary key references auth.users (id) on delete cascade,
  full_name  text not null,
  photo_path text -- an object key in the photo bucket; in old rows an https:// URL
);

create table public.event_consents (
  event_id              uuid not null references public.events (event_id) on delete cascade,
  user_id               uuid not null references auth.users (id) on delete cascade,
  allow_recognition     boolean default false,
  allow_profile_display boolean,
  consented_at          timestamptz,
  revoked_at            timestamptz,
  updated_at            timestamptz,
  primary key (event_id, user_id)
);
create index event_consents_by_user on public.event_consents (user_id);

-- Attendees write with these policies, as role `authenticated`.
alter table public.events enable row level security;
alter table public.profiles enable row level security;
alter table public.event_consents enable row level security;

create policy "everybody signed in sees the events" on public.events
  for select to authenticated using (true);
create policy "an event is its maker's" on public.events
  for all to authenticated using (created_by = auth.uid()) with check (created_by = auth.uid());

create policy "everybody signed in sees the profiles" on public.profiles
  for select to authenticated using (true);
create policy "a profile is its owner's" on public.profiles
  for all to authenticated using (user_id = auth.uid()) with check (user_id = auth.uid());

create policy "a consent is its attendee's" on public.event_consents
  for all to authenticated using (user_id = auth.uid()) with check (user_id = auth.uid());
