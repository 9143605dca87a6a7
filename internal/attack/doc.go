// Package attack holds no code, only tests that attack the product as a hostile tenant would.
//
// They know check and repair from outside: accounts are found, judged, repaired and undone while a real process of
// another user renames, links and recreates what is being worked on. They promise that what does not belong to the
// account, or was not proved to, is as it was before, owner, mode, ACL and capabilities. They refuse to look inside.
package attack
