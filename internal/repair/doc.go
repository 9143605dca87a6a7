// Package repair is the one writer: nothing else changes a customer's tree.
//
// It knows plans and what became of them. It makes a plan durable, carries it out in stages with a verification that is
// handed to it, takes back what got worse, finishes a run that was cut short, and plans the way back from any run. It
// does not know why a change is right: findings, snapshots and undo all come to it as plans.
//
// It promises:
//
//   - No change is made that is not in a plan on disk, nor before the batch that it belongs to is announced on disk.
//   - Compare and set: an entry is pinned, identified and compared with the state the plan expects before it is touched,
//     and read back after it. What looks different is skipped and reported.
//   - Two directories change places in one step, if each is the one that the plan names (see exchange.go).
//   - At no moment has anyone more rights than both the state before and the state after give (see steps).
//   - A failed write or sync of our own files stops the run at once. A sync is never repeated.
//   - After a crash at any moment, Resume finishes the run and PlanUndo takes it back.
//
// It refuses plans that are damaged, of a newer version, or made for another server.
//
// # Files
//
// In the state directory, which only its owner can enter: plans/ID.plan, runs/ID.outcome, lock; and runs/ID.guard (JSON)
// for a command that is watched, from before it is started until its outcome is whole. The server has a
// lock of its own (see lock.go).
//
// Both kinds start with eight bytes of magic ("RFPLAN\r\n", "RFOUTC\r\n"; the line end shows a transfer that mangles
// text) and continue in records:
//
//	length    uint32, little endian: of kind and payload
//	checksum  uint32: CRC-32C over the record's offset (uint64), kind and payload
//	kind      one byte
//	payload   JSON, or packed fields: uvarint numbers, byte strings with a uvarint length
//
// A plan is H (header, JSON), then for each account A (JSON) and its changes C in the order in which they are made, with
// K (JSON) for entries deliberately left alone and S (a string that later records name by its number) wherever needed,
// and E (JSON): counts and the SHA-256 of all bytes before it. A plan without E was never finished; it never had a name.
// One that is applied from a file elsewhere is copied to plans/ first.
//
//	C  base, file system, problem, effect, rule (numbers of strings), kind of entry (byte), path below the base,
//	   handle, inode, birth time (varint, ns), links, state before, state after,
//	   0, or 1 with size and SHA-256 of the content, or 2 with path, file system, handle, inode and birth time of the
//	   directory that the entry changes places with
//	a state is uid, gid, mode, access ACL, default ACL (kernel form, empty for none), security.capability
//
// An outcome is H (JSON: run, plan and its SHA-256), L (JSON: what verification knew before the run), and then, as it
// goes: G (JSON, a stage starts), B (a batch is announced: direction, and numbers of changes as varint differences;
// nothing of it is done before this is synced), R (one result: direction, number, status, reason, and the state observed
// where it is not the planned one), T (JSON, an account is taken back, and why), V (JSON, a stage was verified),
// U (JSON, the run was resumed) and E (JSON, how it ended). H stands again before every G. A torn end, which a crash
// leaves, was never relied upon; a record that a bad disk damaged is passed over, and leaves in doubt every change of which
// no other record tells what became of it (see damage.go).
package repair
