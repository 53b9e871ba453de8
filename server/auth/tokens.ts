// Bearer tokens: who a caller is, from a file of token hashes.
import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { RpcError } from "../errors/rpc-error.js";
import type { Principal } from "../rpc/call.js";

/**
 * Tells on whose behalf a call is made, from its metadata `authorization`.
 *
 * @throws UNAUTHENTICATED
 */
export type Authenticate = (authorization: string | undefined) => Principal;

/** Whoever calls, while authentication is off. */
export const everyone: Principal = { tenant: "default", name: "anonymous", admin: true };

/** Lets every caller in, as tenant `default`. */
export const withoutAuthentication: Authenticate = () => everyone;

/**
 * Lets in the callers whose token a file knows.
 *
 * @param file lines `TENANT PRINCIPAL SHA256 [admin]`, the third one the token's
 *   SHA-256 in hex; empty lines and lines that begin with # are passed over
 * @throws Error naming the file and line that is not of that form
 */
export function withTokens(file: string): Authenticate {
  const known = readTokens(file);
  return (authorization = "") => {
    const token = /^bearer +(\S+)$/i.exec(authorization)?.[1];
    if (token === undefined) {
      throw new RpcError("UNAUTHENTICATED", "send the metadata `authorization: Bearer TOKEN`");
    }
    const hash = sha256(token);
    let found: Principal | undefined;
    // All are compared, so that the time tells nothing about the place of a match.
    for (const { tokenHash, principal } of known) {
      if (timingSafeEqual(tokenHash, hash)) found = principal;
    }
    if (!found) throw new RpcError("UNAUTHENTICATED", "the token is not known to this server");
    return found;
  };
}

function readTokens(file: string): { tokenHash: Buffer; principal: Principal }[] {
  const known = readFileSync(file, "utf8")
    .split(/\r?\n/)
    .flatMap((line, index) => {
      if (/^\s*(#|$)/.test(line)) return [];
      const [tenant, name, hash, right, ...rest] = line.trim().split(/\s+/);
      const known = right === undefined || (right === "admin" && rest.length === 0);
      if (!tenant || !name || !known || !/^[0-9a-f]{64}$/i.test(hash ?? "")) {
        throw new Error(
          `${file}:${index + 1}: expected "TENANT PRINCIPAL SHA256" or ` +
            `"TENANT PRINCIPAL SHA256 admin", the token's SHA-256 in hex`,
        );
      }
      const principal = { tenant, name, admin: right === "admin" };
      return [{ tokenHash: Buffer.from(hash ?? "", "hex"), principal }];
    });
  if (known.length === 0) throw new Error(`${file}: has no token, so nobody could call`);
  return known;
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
