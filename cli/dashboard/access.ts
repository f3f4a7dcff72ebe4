import { randomBytes, timingSafeEqual } from 'node:crypto'
import type { Context, MiddlewareHandler } from 'hono'
import { getCookie, setCookie } from 'hono/cookie'
import { secureHeaders } from 'hono/secure-headers'

/** Who may read and act: who has opened the link that the program printed, in that browser, on this machine. */
export interface Access {
  /** The path of the link, which opens the page once. */
  path: string
  /** What every answer carries: nothing is loaded from elsewhere, embedded, or kept by the browser. */
  headers: MiddlewareHandler
  /** Refuses what was not addressed to this page, or was sent by another one. */
  addressed: MiddlewareHandler
  /** Answers the link with a cookie, and refuses requests without it. */
  known: MiddlewareHandler
}

export interface AccessOptions {
  /** Such as 127.0.0.1:40123, once the server listens. */
  host: () => string
  /** The page that says why it was refused. */
  refuse: (context: Context, why: string) => Response | Promise<Response>
}

const SECRET_BYTES = 32

/** Other pages on this machine, on other ports, are other origins: the cookie alone would let them act. */
export function accessOf({ host, refuse }: AccessOptions): Access {
  const session = secret()
  let token: string | null = secret()
  const path = `/open/${token}`
  const forbid = (context: Context, why: string) => {
    context.status(403)
    return refuse(context, why)
  }
  /** Cookies of 127.0.0.1 are shared by all ports, so that two pages need two names. */
  const cookie = () => `event-indexer-${host().split(':').at(-1)}`

  return {
    path,
    headers: secureHeaders({
      contentSecurityPolicy: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'"],
        imgSrc: ["'self'"],
        connectSrc: ["'self'"],
        formAction: ["'self'"],
        baseUri: ["'none'"],
        frameAncestors: ["'none'"],
      },
      referrerPolicy: 'same-origin',
      strictTransportSecurity: false,
      xFrameOptions: 'DENY',
    }),
    addressed: async (context, next) => {
      // A name of somebody else's that leads to 127.0.0.1 would make their page one of this origin.
      if (context.req.header('host') !== host())
        return forbid(context, `This page is at http://${host()}, and at no other address.`)
      const { method } = context.req
      if (method !== 'GET' && context.req.header('origin') !== `http://${host()}`)
        return forbid(context, 'This was not sent by this page, so nothing was done.')
      context.header('cache-control', 'no-store')
      return next()
    },
    known: async (context, next) => {
      const isKnown = same(getCookie(context, cookie()) ?? '', session)
      const opens = context.req.path.startsWith('/open/')
      if (opens && !isKnown && token !== null && same(context.req.path, `/open/${token}`)) {
        token = null
        setCookie(context, cookie(), session, { httpOnly: true, sameSite: 'Strict', path: '/' })
        return context.redirect('/', 303)
      }
      if (!isKnown)
        return forbid(
          context,
          'This needs the link that the program printed, which opens the page once, in one browser. Start the program again for another one.',
        )
      return opens ? context.redirect('/', 303) : next()
    },
  }
}

const secret = () => randomBytes(SECRET_BYTES).toString('base64url')

function same(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)]
  return a.length === b.length && timingSafeEqual(a, b)
}
