// Reads the client's options and its connection string into the settings of a connection.

import { readFileSync } from "node:fs";
import type { AgentStoreClientOptions } from "./options.js";

/** What a connection needs to know. */
export interface Settings {
  host: string;
  port: number;
  /** PEM of the certificate authority, or true for the system's; false for plaintext. */
  tls: Buffer | boolean;
  token: string;
  timeoutMs: number;
  maxAttempts: number | undefined;
}

const DEFAULT_URL = "agentstore://127.0.0.1:50051";
const DEFAULT_PORT = 50051;
const DEFAULT_TIMEOUT_MS = 30_000;
const MAX_TIMEOUT_MS = 2 ** 31 - 1;
const PARAMETERS = ["tls", "ca", "timeout"];

/**
 * Settles options, connection string and environment into one.
 *
 * @throws TypeError when one of them is malformed, or when a token would travel in clear; the
 *   message never shows the token
 */
export function settle(
  options: AgentStoreClientOptions,
  env: Readonly<Record<string, string | undefined>>,
): Settings {
  const url = parse(options.url ?? (env["AGENTSTORE_URL"] || DEFAULT_URL));
  const token = options.token ?? (url.token || env["AGENTSTORE_TOKEN"] || "");
  if (!/^[\x21-\x7e]*$/.test(token)) {
    throw new TypeError("the token may hold visible ASCII characters only");
  }
  if (token !== "" && !url.tls && !url.plaintextChosen && !isLoopback(url.host)) {
    throw new TypeError(
      `the token would travel to ${url.host} in clear: add ?tls=true to the url, or ?tls=false ` +
        "where the network in between is trusted",
    );
  }
  const { maxAttempts } = options;
  if (maxAttempts !== undefined && !(Number.isSafeInteger(maxAttempts) && maxAttempts >= 1)) {
    throw new TypeError("maxAttempts must be a whole number, 1 or more");
  }
  return {
    host: url.host,
    port: url.port,
    tls: url.ca === undefined ? url.tls : readCa(url.ca),
    token,
    timeoutMs: timeout(options.timeoutMs, "timeoutMs") ?? url.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    maxAttempts,
  };
}

/**
 * Checks a number of milliseconds.
 *
 * @throws TypeError when it is not a whole number from 1 to 2,147,483,647
 */
export function timeout(value: number | undefined, name: string): number | undefined {
  if (value === undefined) return undefined;
  if (!Number.isSafeInteger(value) || value < 1 || value > MAX_TIMEOUT_MS) {
    throw new TypeError(`${name} must be a whole number of milliseconds, 1 to ${MAX_TIMEOUT_MS}`);
  }
  return value;
}

interface ParsedUrl {
  host: string;
  port: number;
  token: string;
  tls: boolean;
  plaintextChosen: boolean;
  ca: string | undefined;
  timeoutMs: number | undefined;
}

function parse(text: string): ParsedUrl {
  if (!URL.canParse(text)) throw malformed("it is no url");
  const url = new URL(text);
  if (url.protocol !== "agentstore:") throw malformed("it must begin with agentstore://");
  if (url.password !== "") throw malformed("a token is written TOKEN@, a colon in it as %3A");
  if (!/^(\[[0-9a-f:.]+\]|[\w.-]+)$/i.test(url.hostname)) throw malformed("it names no host");
  if (url.port === "0") throw malformed("the port must be 1 to 65535");
  if (url.pathname !== "" && url.pathname !== "/")
    throw malformed("nothing follows the port but ?");
  if (url.hash !== "") throw malformed("# has no meaning in it");
  const query = url.searchParams;
  for (const name of new Set(query.keys())) {
    if (!PARAMETERS.includes(name)) {
      throw malformed(`it has no parameter "${name}"; there are ${PARAMETERS.join(", ")}`);
    }
    if (query.getAll(name).length > 1) throw malformed(`"${name}" is given more than once`);
  }
  const tls = query.get("tls");
  if (tls !== null && tls !== "true" && tls !== "false") throw malformed("tls is true or false");
  const ca = query.get("ca") ?? undefined;
  if (ca === "") throw malformed("ca is the path of a PEM file");
  if (ca !== undefined && tls === "false") throw malformed("ca needs tls, which is false");
  const timeoutText = query.get("timeout");
  if (timeoutText !== null && !/^\d+$/.test(timeoutText)) {
    throw malformed("timeout is a whole number of milliseconds");
  }
  return {
    host: url.hostname.replace(/^\[|\]$/g, "").toLowerCase(),
    port: url.port === "" ? DEFAULT_PORT : Number(url.port),
    token: decode(url.username),
    tls: tls === "true" || ca !== undefined,
    plaintextChosen: tls === "false",
    ca,
    timeoutMs: timeout(timeoutText === null ? undefined : Number(timeoutText), "timeout"),
  };
}

/** The error for a connection string. It does not repeat the string, which may hold a token. */
function malformed(why: string): TypeError {
  return new TypeError(
    `malformed connection string: ${why} ` +
      "(agentstore://[TOKEN@]HOST[:PORT][?tls=true|false&ca=FILE&timeout=MS])",
  );
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw malformed("the token is not percent-encoded properly");
  }
}

function isLoopback(host: string): boolean {
  return (
    host === "localhost" ||
    host.endsWith(".localhost") ||
    /^127\.\d+\.\d+\.\d+$/.test(host) ||
    host === "::1"
  );
}

function readCa(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new TypeError(`cannot read the certificate authority ${path} of the connection string`, {
      cause: error,
    });
  }
}
