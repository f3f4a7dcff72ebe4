/**
 * Stands in the bundles for the parts of supabase-js that this system does not use and that `createClient` makes all the same:
 * auth, realtime, storage and edge functions, two fifths of a bundle. See `alias` in serverless.yml. Who calls one of them gets
 * a TypeError; `setAuth` alone is called by `createClient` itself.
 */
class Unused {
  setAuth(): void {}
}

export class AuthClient extends Unused {}
export class RealtimeClient extends Unused {}
export class StorageClient extends Unused {}
export class FunctionsClient extends Unused {}

// Exported again by supabase-js.
export class StorageApiError extends Error {}
export class FunctionsError extends Error {}
export class FunctionsFetchError extends Error {}
export class FunctionsHttpError extends Error {}
export class FunctionsRelayError extends Error {}
export const FunctionRegion = {}
