// VerifyAudit: holds the audit log against its hashes.
import {
  type AuditFault,
  AuditFaultKind,
  type VerifyAuditRequest,
  type VerifyAuditResponse,
} from "../../gen/agentstore/v1/audit.js";
import type { CallContext } from "../rpc/call.js";
import type { UnaryRpc } from "../rpc/method.js";
import { factsOf } from "./event.js";
import { chainHash, EMPTY_CHAIN, hashFacts } from "./hash.js";
import * as sql from "./sql.js";

const CHAIN_BYTES = 32;

export const verifyAudit: UnaryRpc<VerifyAuditRequest, VerifyAuditResponse> = {
  validate({ afterPosition, afterChain }, check) {
    check.notNegative("after_position", afterPosition);
    if (afterPosition > 0n && afterChain.length !== CHAIN_BYTES) {
      check.fail("after_chain", `must be the ${CHAIN_BYTES} bytes of the chain at after_position`);
    }
    if (afterPosition === 0n && afterChain.length > 0) {
      check.fail("after_chain", "goes with after_position");
    }
  },

  async handle({ afterPosition, afterChain }, context) {
    const { db, principal, signal, limits } = context;
    await context.audit.sealTenant(db, principal.tenant, signal);
    // In one statement: whatever is sealed from now on lies behind both ends.
    const [ends] = await db.query(sql.getEnds, [principal.tenant], signal);
    const end = ends?.recorded ?? 0n;
    const walk = new Walk(afterPosition, afterPosition > 0n ? afterChain : EMPTY_CHAIN);
    if (afterPosition > 0n) await walk.compareAnchor(context);
    while (!walk.fault && walk.position < end && walk.checked < limits.auditVerifyEvents) {
      const values = [principal.tenant, walk.position, limits.auditBatch];
      const rows = await db.query(sql.readEvents, values, signal);
      for (const row of rows) if (row.position <= end) walk.check(row);
      if (rows.length === 0) walk.missing();
    }
    const more = !walk.fault && walk.position < end;
    if (!walk.fault && !more) walk.compareEnd(end, ends?.chain ?? EMPTY_CHAIN, ends?.last ?? 0n);
    context.note({ checked: walk.checked, ...(walk.fault && { fault: walk.fault.position }) });
    return {
      checked: BigInt(walk.checked),
      fault: walk.fault,
      position: walk.position,
      chain: walk.chain,
      more,
    };
  },
};

// A walk along a chain up to its first fault.
class Walk {
  checked = 0;
  fault: AuditFault | undefined;

  constructor(
    public position: bigint,
    public chain: Buffer,
  ) {}

  /** Is the chain at the position where the walk begins the one that the caller knows? */
  async compareAnchor({ db, principal, signal }: CallContext): Promise<void> {
    const values = [principal.tenant, this.position - 1n, 1];
    const [row] = await db.query(sql.readEvents, values, signal);
    if (row?.position !== this.position) {
      this.#fail(this.position, AuditFaultKind.REMOVED, "there is no event at this position");
    } else if (!row.chain.equals(this.chain)) {
      this.#fail(
        this.position,
        AuditFaultKind.REWRITTEN,
        "the chain is not the one that was known: the log up to here was written anew",
      );
    }
  }

  /** Takes the next event. */
  check(row: sql.EventRow): void {
    if (this.fault) return;
    const position = this.position + 1n;
    if (row.position !== position) {
      this.missing();
      return;
    }
    if (!hashFacts(factsOf(row)).equals(row.hash)) {
      this.#fail(position, AuditFaultKind.CHANGED, "the event is not what its hash says");
      return;
    }
    const chain = chainHash(this.chain, position, row.sealed_at_us, row.hash);
    if (!chain.equals(row.chain)) {
      this.#fail(
        position,
        AuditFaultKind.CHAIN_BROKEN,
        "the event does not follow from those before it: it was put here, replaced or moved",
      );
      return;
    }
    this.position = position;
    this.chain = chain;
    this.checked++;
  }

  /** There is no event at the next position. */
  missing(): void {
    const position = this.position + 1n;
    this.#fail(position, AuditFaultKind.REMOVED, "there is no event at this position");
  }

  /** Does the log end where its record says? */
  compareEnd(recorded: bigint, chain: Buffer, last: bigint): void {
    if (last > recorded) {
      this.#fail(
        recorded + 1n,
        AuditFaultKind.BEHIND_END,
        "there is an event behind the recorded end of the log",
      );
    } else if (this.position === recorded && !chain.equals(this.chain)) {
      this.#fail(
        recorded,
        AuditFaultKind.CHAIN_BROKEN,
        "the chain is not the one that is recorded as the end of the log",
      );
    }
  }

  #fail(position: bigint, kind: AuditFaultKind, description: string): void {
    this.fault = { position, kind, description: `position ${position}: ${description}` };
  }
}
