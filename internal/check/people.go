package check

import "rightful"

// members gives everybody but root who is known to hold a group: by the server's users, or as the web server or PHP of
// some site.
func (c *checker) members(gid uint32) []rightful.Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holders == nil {
		c.holders = map[uint32][]rightful.Identity{}
		add := func(id rightful.Identity) {
			for _, g := range id.GIDs {
				if id.UID != 0 {
					c.holders[g] = append(c.holders[g], id)
				}
			}
		}
		add(c.World.Web)
		for _, u := range c.World.Users.All() {
			add(rightful.Identity{UID: u.UID, GIDs: c.World.Users.Groups(u.Name)})
		}
		for i := range c.World.Accounts {
			for _, s := range c.World.Accounts[i].Sites {
				add(s.Web)
				add(s.PHP.Identity)
			}
		}
	}
	return c.holders[gid]
}

// shutsOut reports whether a change of a directory takes the way through it from somebody. Where only the group can lose it,
// its known members are asked: that of a customer has none but himself, and his directory then changes in one visit.
func (c *checker) shutsOut(before, after rightful.Meta) bool {
	if !rightful.Gains(after, before, rightful.RightSearch) {
		return false
	}
	othersLose := before.Mode&0o001 != 0
	ownerLoses := before.UID != 0 && before.UID != after.UID && before.Mode&0o100 != 0
	if othersLose || ownerLoses || len(before.ACL) > 0 || len(after.ACL) > 0 {
		return true
	}
	for _, id := range c.members(before.GID) {
		if before.Allowed(id, rightful.RightSearch) && !after.Allowed(id, rightful.RightSearch) {
			return true
		}
	}
	return false
}
