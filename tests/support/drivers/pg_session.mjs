// node-postgres through the gate.
import fs from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'
import assert from 'node:assert'
import pg from 'pg'
import Cursor from 'pg-cursor'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'

const ssl = { ca: fs.readFileSync(process.env.PGSSLROOTCERT), host: process.env.PGHOST }
const client = new pg.Client({ ssl, password: process.env.GATE_PASSWORD })
await client.connect()
assert.deepEqual((await client.query('select $1::int + 1 as n, $2 as t', [41, 'x'])).rows, [{ n: 42, t: 'x' }])
const named = { name: 'one', text: 'select id from orders where id = $1' }
for (const id of [1, 2, 3]) assert.equal((await client.query({ ...named, values: [id] })).rows[0].id, id)
await client.query('begin')
const cursor = client.query(new Cursor('select id from orders order by id'))
assert.equal((await cursor.read(10)).length, 10)
assert.equal((await cursor.read(5))[4].id, 15)
await cursor.close()
await client.query('rollback')
await pipeline(Readable.from(['one\n', 'two\n']), client.query(copyFrom('copy audit_trail (what) from stdin')))
let out = ''
for await (const chunk of client.query(copyTo('copy (select what from audit_trail order by 1) to stdout'))) out += chunk
assert.equal(out, 'one\ntwo\n')
await assert.rejects(client.query('select 1/0'), { code: '22012' })
await assert.rejects(client.query('drop table orders'), { code: '42501' })
assert.equal((await client.query('select 1 as a; select 2 as b'))[1].rows[0].b, 2)
await client.end()

// postgres.js: pipelined by itself, prepared by itself.
import postgres from 'postgres'
const sql = postgres({ ssl: { ca: fs.readFileSync(process.env.PGSSLROOTCERT) }, max: 2, password: process.env.GATE_PASSWORD })
const all = await Promise.all(Array.from({ length: 100 }, (_, n) => sql`select ${n}::int as n`))
assert.deepEqual(all.map(([row]) => row.n), Array.from({ length: 100 }, (_, n) => n))
await sql.begin(async (sql) => {
  await sql`update orders set amount = 7 where id = 7`
  assert.equal(Number((await sql`select amount from orders where id = 7`)[0].amount), 7)
})
let rows = 0
await sql`select id from orders`.cursor(500, (part) => { rows += part.length })
assert.equal(rows, 3000)
const slow = sql`select pg_sleep(30)`
setTimeout(() => slow.cancel(), 300)
await assert.rejects(slow, { code: '57014' })
await sql.end()
console.log('ok')
