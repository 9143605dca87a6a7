package rightful

// RightSearch is the bit that lets an identity pass through a directory.
const RightSearch uint8 = 1

// Gains reports whether some identity but root gets one of the rights in after that it lacks in before. It tries every
// kind of identity that the two could tell apart: each uid and each set of gids that either names, and strangers. Beyond
// six gids it does not try but says yes.
func Gains(before, after Meta, rights uint8) bool {
	uids := []uint32{before.UID, after.UID}
	gids := []uint32{before.GID}
	addGID := func(g uint32) {
		for _, x := range gids {
			if x == g {
				return
			}
		}
		gids = append(gids, g)
	}
	addGID(after.GID)
	for _, a := range []ACL{before.ACL, after.ACL} {
		for _, e := range a {
			switch e.Tag {
			case ACLUser:
				uids = append(uids, e.ID)
			case ACLGroup:
				addGID(e.ID)
			}
		}
	}
	if len(gids) > 6 {
		return true
	}
	stranger := uint32(1<<32 - 2)
	for i := 0; i < len(uids); i++ {
		if uids[i] == stranger {
			stranger--
			i = -1
		}
	}
	uids = append(uids, stranger)
	id := Identity{GIDs: make([]uint32, 0, len(gids))}
	for _, id.UID = range uids {
		if id.UID == 0 {
			continue
		}
		for set := range 1 << len(gids) {
			id.GIDs = id.GIDs[:0]
			for i, g := range gids {
				if set&(1<<i) != 0 {
					id.GIDs = append(id.GIDs, g)
				}
			}
			if after.Granted(id)&^before.Granted(id)&rights != 0 {
				return true
			}
		}
	}
	return false
}
