// Package rescue rebuilds the home of an account from backups, beside the place where it will stand.
//
// It knows quarantines (a directory beside the home, on its file system, into which only root can look), the process that
// fills them, what a rescue has done so far, and what is told to the operator and the customer. It does not know where
// the home's parts lie in a backup (archive says that), nor who should own what (a plan of repair makes that right in the
// quarantine, and brings the home in by one exchange).
//
// It promises:
//
//   - Nothing but the quarantine is written to. What a backup holds is written by a process with the account's own uid and
//     no other right, which cannot leave the quarantine: it has no other root directory, landlock where the kernel has it,
//     and gets each directory as an open descriptor. No link is followed, whoever made it.
//   - Devices, FIFOs and sockets, set-id bits, and what others could write are not brought back.
//   - What a source holds is bounded: by what was announced to fit on the disk, entry by entry.
//   - The best source wins: each is unpacked by itself, then merged, and nothing that a better one had is replaced.
//   - What is left of the home is copied as it is, by the account's own eyes; what the account may not read is told.
//   - A kill at any time leaves a record from which the rescue goes on: a source that was not unpacked to its end is
//     unpacked again, and nothing else. What was begun to be removed is removed, and never taken for a home.
//
// It refuses a home whose parent anybody but root can write.
//
// # Files
//
// In the state directory: rescue/ID.json, a [Record]. Beside the home: .rightful-rescue-ID, mode 0700, with one directory
// for each source (1, 2, …) until they are merged, and home, which is the rebuilt home, and the old one after the switch.
// While something is removed: removed-1, removed-2, … And at the top of a source, while a file is written that another one of
// the same name must not give way to before it is whole: .rightful-part-0. A directory with mode 1700 is one that only stands
// on the way to something, until the home is furnished.
package rescue
