-- The nudge: one HTTP request that asks the scheduler to come now instead of at the next minute. It is a hint that may be
-- lost; the noted change is the truth.
create table if not exists indexing.nudging (
  only_row      boolean primary key default true check (only_row),
  url           text,
  secret        text,
  running_until timestamptz not null default '-infinity', -- a run that a nudge began is under way …
  again         boolean not null default false            -- … and was nudged once more meanwhile
);
insert into indexing.nudging default values on conflict do nothing;
alter table indexing.nudging enable row level security;
revoke all on indexing.nudging from public, anon, authenticated, service_role;

-- Sets where nudges go and the secret that they carry; nulls turn them off. For the database's owner alone.
create or replace function indexing.configure_nudge(url text, secret text) returns void
language plpgsql set search_path = '' as $$
begin
  if url is not null and url !~ '^(https://|http://127\.0\.0\.1[:/])' then
    raise exception 'the URL of the nudge must begin with https://, not %', url using errcode = 'invalid_parameter_value';
  end if;
  if url is not null and coalesce(length(secret), 0) < 16 then
    raise exception 'the secret of the nudge must have 16 characters at least' using errcode = 'invalid_parameter_value';
  end if;
  update indexing.nudging set url = configure_nudge.url, secret = configure_nudge.secret where only_row;
end
$$;

create or replace function indexing.nudge() returns void
language plpgsql set search_path = '' as $$
declare
  target record;
begin
  select n.url, n.secret into target from indexing.nudging n where n.url is not null;
  if found then
    perform net.http_post(
      url => target.url,
      body => '{}'::jsonb,
      headers => jsonb_build_object('content-type', 'application/json', 'x-nudge-secret', target.secret),
      timeout_milliseconds => 2000
    );
  end if;
exception when others then
  null; -- whatever is wrong with the nudge, or with pg_net, is not the app's concern
end
$$;

-- Asks for the turn that a nudge wants. Returns whether to run; if not, a run is under way and will look again. A run that
-- died gives its turn back after run_seconds.
create or replace function public.indexing_begin_nudged_run(run_seconds double precision) returns boolean
language plpgsql security definer set search_path = '' as $$
declare
  free boolean;
begin
  update indexing.nudging n set
    again = n.running_until > clock_timestamp(),
    running_until = case when n.running_until > clock_timestamp() then n.running_until
      else clock_timestamp() + make_interval(secs => run_seconds) end
  where n.only_row
  returning not n.again into free;
  return free;
end
$$;

-- Ends the turn. Returns whether a nudge came meanwhile: then it is not ended, and the changes are to be looked at again.
create or replace function public.indexing_end_nudged_run() returns boolean
language sql security definer set search_path = '' as $$
  update indexing.nudging n set
    again = false,
    running_until = case when n.again then n.running_until else '-infinity' end
  from (select m.again from indexing.nudging m for update) before
  where n.only_row
  returning before.again
$$;

select indexing.close_functions();
