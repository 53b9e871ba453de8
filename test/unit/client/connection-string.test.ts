// Tests how options, connection string and environment become the settings of a connection.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { settle } from "../../../client/connection-string.js";
import { AgentStoreClient } from "../../../client/index.js";

const directory = mkdtempSync(join(tmpdir(), "agentstore-ca-"));
const ca = join(directory, "ca.pem");
writeFileSync(ca, "PEM");
afterAll(() => rmSync(directory, { recursive: true }));

describe("the connection string", () => {
  it("is the local server by default", () => {
    expect(settle({}, {})).toEqual({
      host: "127.0.0.1",
      port: 50051,
      tls: false,
      token: "",
      timeoutMs: 30_000,
      maxAttempts: undefined,
    });
  });

  it.each([
    ["agentstore://db", { host: "db", port: 50051, tls: false }],
    ["agentstore://db:7/", { host: "db", port: 7 }],
    ["agentstore://LocalHost", { host: "localhost" }],
    ["agentstore://[::1]:9", { host: "::1", port: 9 }],
    ["agentstore://my_store.internal?tls=true", { host: "my_store.internal", tls: true }],
    ["agentstore://s%3Acret@db?tls=true", { token: "s:cret", tls: true }],
    ["agentstore://t@db?tls=false", { token: "t", tls: false }],
    ["agentstore://t@localhost", { token: "t", tls: false }],
    ["agentstore://t@127.8.0.1", { token: "t" }],
    ["agentstore://t@[::1]", { token: "t" }],
    ["agentstore://db?timeout=1500", { timeoutMs: 1500 }],
    [`agentstore://t@db?ca=${ca}`, { tls: Buffer.from("PEM"), token: "t" }],
  ])("reads %s", (url, expected) => {
    expect(settle({ url }, {})).toMatchObject(expected);
  });

  it.each([
    ["", /it is no url/],
    ["localhost:50051", /must begin with agentstore/],
    ["http://localhost", /must begin with agentstore/],
    ["agentstore://", /names no host/],
    ["agentstore://%20:1", /names no host|no url/],
    ["agentstore://h:0", /port must be/],
    ["agentstore://h:65536", /no url/],
    ["agentstore://h/sessions", /nothing follows the port/],
    ["agentstore://h#x", /# has no meaning/],
    ["agentstore://h?tsl=true", /no parameter "tsl"; there are tls, ca, timeout/],
    ["agentstore://h?tls=yes", /tls is true or false/],
    ["agentstore://h?tls=true&tls=false", /"tls" is given more than once/],
    ["agentstore://h?ca=", /ca is the path/],
    [`agentstore://h?ca=${ca}&tls=false`, /ca needs tls/],
    ["agentstore://h?ca=/does/not/exist.pem", /cannot read .*\/does\/not\/exist.pem/],
    ["agentstore://h?timeout=1e3", /timeout is a whole number/],
    ["agentstore://h?timeout=0", /timeout must be .* 1 to 2147483647/],
    ["agentstore://h?timeout=2147483648", /timeout must be/],
    ["agentstore://user:hunter2@h", /a colon in it as %3A/],
    ["agentstore://%ff@h?tls=true", /not percent-encoded/],
    ["agentstore://a%20b@h?tls=true", /visible ASCII/],
    ["agentstore://hunter2@h", /would travel to h in clear/],
    ["agentstore://hunter2@[2001:db8::1]", /in clear/],
    ["agentstore://hunter2@127.0.0.1.example.com", /in clear/],
  ])("refuses %s", (url, message) => {
    const attempt = (): unknown => settle({ url }, {});
    expect(attempt).toThrow(TypeError);
    expect(attempt).toThrow(message);
    expect(attempt).not.toThrow(/hunter2/);
  });

  it("comes from AGENTSTORE_URL, and the token from AGENTSTORE_TOKEN, unless given", () => {
    const env = { AGENTSTORE_URL: "agentstore://u@localhost:1", AGENTSTORE_TOKEN: "e" };
    expect(settle({}, env)).toMatchObject({ port: 1, token: "u" });
    expect(settle({ token: "o" }, env)).toMatchObject({ port: 1, token: "o" });
    expect(settle({ url: "agentstore://localhost:2" }, env)).toMatchObject({ port: 2, token: "e" });
    expect(settle({}, { AGENTSTORE_URL: "", AGENTSTORE_TOKEN: "" })).toMatchObject({
      port: 50051,
      token: "",
    });
    expect(() => settle({ url: "agentstore://db" }, env)).toThrow(/in clear/);
  });

  it("is overruled by the options", () => {
    const url = "agentstore://u@localhost?timeout=5";
    expect(settle({ url, timeoutMs: 6, token: "o", maxAttempts: 2 }, {})).toMatchObject({
      timeoutMs: 6,
      token: "o",
      maxAttempts: 2,
    });
    expect(() => settle({ timeoutMs: -1 }, {})).toThrow(/timeoutMs must be/);
    expect(() => settle({ maxAttempts: 0 }, {})).toThrow(/maxAttempts must be/);
    expect(() => settle({ token: "line\nbreak" }, {})).toThrow(/visible ASCII/);
  });
});

describe("the client's constructor", () => {
  it("takes a connection string or options", () => {
    using(new AgentStoreClient("agentstore://[::1]:4"), "[::1]:4");
    using(new AgentStoreClient({ url: "agentstore://localhost" }), "localhost:50051");
    expect(() => new AgentStoreClient("nowhere")).toThrow(TypeError);
  });

  function using(client: AgentStoreClient, address: string): void {
    expect(client.address).toBe(address);
    client.close();
  }
});
