// Package snapshot records the owner, group, mode, ACLs, capabilities, links and identity of every entry of an account at
// one time, and reads such records back: one after the other, by path, by inode, against another, or beside a walk.
//
// It promises:
//
//   - A snapshot appears in the list only when all of it is on disk. One that a crash cut short leaves nothing behind
//     but unfinished files that are swept away later.
//   - One account can be read without the others. What did not change since an earlier snapshot is stored once.
//   - A changed bit is found wherever it is. A newer version of the format is refused by name.
//   - Memory does not grow with the number of entries, but for looking up by inode, which takes 16 bytes for each.
//   - The same tree gives the same bytes.
//
// It changes no tree and does not judge: internal/check turns a difference into a change, by the laws, and
// internal/repair makes it. It follows no link and opens no file but those whose content guards a privilege (law 5).
//
// # Files
//
// In the state directory: snapshots/ID.snapshot, one for each snapshot; snapshots/accounts/HASH.account, what was recorded
// of one account, which all snapshots that recorded the same share; snapshots/lock, held shared by whoever writes a
// snapshot and alone by whoever removes one.
//
// ID.snapshot is lines of JSON: a Header, an Account for each account in the order of their names, and last
// {"end":N,"sha256":HASH}, with the number of accounts and the SHA-256 of all bytes before that line.
//
// HASH.account is, with all numbers little endian:
//
//	header   magic "RFSNAP\r\n", version uint32, CRC-32C of both uint32
//	blocks   of some thousand entries in walk order, each in two zstd frames: what (paths and metadata) and which
//	         (identity, times, sizes), so that who asks for one need not unpack the other
//	index    one zstd frame, see below
//	trailer  position of the index uint64, its length uint32, its unpacked length uint32, its checksum uint32,
//	         CRC-32C of these 20 bytes uint32, magic "RFSNEND\n"
//
// A frame's checksum is CRC-32C over its position (uint64) and its bytes. Nothing lies between frames, so every byte is
// covered. HASH is the SHA-256 over what the index says but for lengths and checksums of frames: it names the recorded
// content, whatever program packed it.
//
// Walk order: the base, then the entries of each directory by name, directory by directory; directories in the order of
// their paths with "/" before all other bytes. A walk meets entries in this order, so nothing is sorted or collected, and
// a path is found by a binary search of the index and of one block.
//
// Packed fields are those of internal/state. A block holds nothing that another block is needed for, and where one ends
// depends on the paths alone, so that a change alters one block and not those behind it.
//
//	what     number of entries; number of directories; for each directory: bytes that its path shares with the one
//	         before, the rest, number of its entries here;
//	         bytes that each name shares with the one before in its directory (byte each);
//	         length of the rest of each (byte each); those rests;
//	         number of states; each: kind (byte), unknown fields (byte), meta;
//	         the number of each entry's state
//	which    how times of change are told: 0 as the difference to the entry before, 1 to the entry's birth (byte);
//	         columns of inode, time of birth and time of change (ns since 1970), the first two each as the difference to
//	         the entry before; size; then for the few that have them, as the difference of places: links where not 1,
//	         file handle, content (size and SHA-256). Directories have no size and links.
//	index    bases: path, file system; blocks: base, directory and name of the first entry, number of entries, and for
//	         each of both frames its length, unpacked length, checksum (uint32) and the first 16 bytes of SHA-256 of
//	         what is in it; then what could not be read: base, path, reason
package snapshot
