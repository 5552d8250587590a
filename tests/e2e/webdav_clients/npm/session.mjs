// A session of npm's webdav: node session.mjs MODULE URL USER TOKEN
import assert from "node:assert/strict";
import { pathToFileURL } from "node:url";

const [module, url, username, password] = process.argv.slice(2);
const { createClient } = await import(pathToFileURL(module));
const client = createClient(url, { username, password });

await client.createDirectory("/a/deep/place", { recursive: true });
await assert.rejects(client.createDirectory("/a"), (error) => error.status === 405);
await assert.rejects(client.createDirectory("/no/parent"), (error) => error.status === 409);

const name = "/a/déjà vu & <50 %> #1?.txt";
assert.equal(await client.putFileContents(name, "content", { overwrite: false }), true);
assert.equal(await client.putFileContents(name, "other", { overwrite: false }), false);
const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, at) => (at * 7919) % 251));
await client.putFileContents("/a/bytes.bin", bytes);

const listed = await client.getDirectoryContents("/a");
assert.deepEqual(listed.map((entry) => entry.filename).sort(), ["/a/bytes.bin", "/a/deep", name].sort());
const entry = listed.find((entry) => entry.filename === name);
assert.equal(entry.type, "file");
assert.equal(entry.size, 7);
assert.equal(entry.basename, name.slice(3));
assert.ok(Math.abs(Date.parse(entry.lastmod) - Date.now()) < 3_600_000, entry.lastmod);
assert.ok(entry.etag);
const stat = await client.stat(name);
assert.equal(stat.etag, entry.etag);
assert.equal((await client.stat("/a")).type, "directory");
assert.equal(await client.exists("/a/deep/place"), true);
assert.equal(await client.exists("/a/deep/placE"), false);

assert.equal(await client.getFileContents(name, { format: "text" }), "content");
assert.ok(bytes.equals(await client.getFileContents("/a/bytes.bin")));
const part = [];
for await (const piece of client.createReadStream("/a/bytes.bin", { range: { start: 1000, end: 1999 } })) part.push(piece);
assert.ok(bytes.subarray(1000, 2000).equals(Buffer.concat(part)));

await client.copyFile("/a/bytes.bin", "/a/deep/copied.bin");
await client.moveFile("/a/deep", "/moved");
assert.ok(bytes.equals(await client.getFileContents("/moved/copied.bin")));
assert.equal(await client.exists("/a/deep"), false);

const update = `<?xml version="1.0"?><d:propertyupdate xmlns:d="DAV:" xmlns:x="urn:x"><d:set><d:prop><x:color>grün</x:color></d:prop></d:set></d:propertyupdate>`;
const patched = await client.customRequest(name, { method: "PROPPATCH", data: update });
assert.equal(patched.status, 207);
const found = await client.stat(name, { details: true });
assert.equal(found.data.props.color["#text"] ?? found.data.props.color, "grün");

const quota = await client.getQuota();
assert.ok(quota.used >= 600_000, JSON.stringify(quota));
assert.ok(quota.available > 0, JSON.stringify(quota));

const lock = await client.lock("/a/bytes.bin");
await assert.rejects(client.putFileContents("/a/bytes.bin", "x"), (error) => error.status === 423);
await client.unlock("/a/bytes.bin", lock.token);
await client.putFileContents("/a/bytes.bin", "x");

await client.deleteFile("/a");
await client.deleteFile("/moved");
await assert.rejects(client.deleteFile("/moved"), (error) => error.status === 404);
assert.deepEqual(await client.getDirectoryContents("/"), []);
