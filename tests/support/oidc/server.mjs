// The certified OpenID Connect provider (npm `oidc-provider`) as dbgate's tests use it: device flow
// on, one public client, two people. Listens on 127.0.0.1, prints {"port":N} when it does, and ends
// when standard input closes, so that no test leaves one behind.
//
// OIDC_PORT (0: any free one), OIDC_ID_TOKEN_TTL (seconds) and OIDC_INTERVAL (seconds between polls)
// may be set. Passwords are not checked: the provider's own development pages take any.

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';

// The provider warns on stdout about development settings; stdout is for the port alone.
for (const level of ['info', 'warn', 'log']) console[level] = (...words) => console.error(...words);
const { default: Provider } = await import('oidc-provider');

const people = {
  alice: { name: 'Alice', email: 'alice@example.com', groups: ['engineers'] },
  bob: { name: 'Bob', email: 'bob@example.com', groups: ['engineers', 'dba'] },
};
const tokenLife = Number(process.env.OIDC_ID_TOKEN_TTL ?? 3600);
const interval = Number(process.env.OIDC_INTERVAL ?? 1);
const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });

// The issuer's name holds the port, so the port comes first.
const http = createServer();
await new Promise((listening) => http.listen(Number(process.env.OIDC_PORT ?? 0), '127.0.0.1', listening));
const { port } = http.address();

const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys: [{ ...key, kid: randomBytes(6).toString('hex'), use: 'sig', alg: 'RS256' }] },
  cookies: { keys: [randomBytes(16).toString('hex')] },
  clients: [
    {
      client_id: 'dbgate-cli',
      client_name: 'dbgate',
      token_endpoint_auth_method: 'none',
      application_type: 'native',
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
      response_types: [],
      redirect_uris: [],
    },
    {
      client_id: 'another-client',
      token_endpoint_auth_method: 'none',
      application_type: 'native',
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
      response_types: [],
      redirect_uris: [],
    },
  ],
  claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'], profile: ['name'] },
  // dbgate reads who someone is from the ID token, not from the userinfo endpoint.
  conformIdTokenClaims: false,
  features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true }, revocation: { enabled: true } },
  issueRefreshToken: async (_context, client) => client.grantTypeAllowed('refresh_token'),
  ttl: { IdToken: tokenLife, AccessToken: tokenLife, DeviceCode: 600, RefreshToken: 86400, Session: 86400, Grant: 86400, Interaction: 600 },
  findAccount: async (_context, id) =>
    people[id] && {
      accountId: id,
      claims: async () => ({ sub: id, email_verified: true, ...people[id] }),
    },
});

// RFC 8628 lets the server name the time between polls; the provider names none, which means 5 s.
provider.use(async (context, next) => {
  await next();
  if (context.oidc?.route === 'device_authorization' && context.body?.device_code) context.body.interval = interval;
});

http.on('request', provider.callback());
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
process.stdout.write(`${JSON.stringify({ port })}\n`);
