// Package replay holds the end-to-end tests: the real binary, inside a real hosting server (hostbox), on its bad days.
//
// It knows what a visitor, stat, getfacl and getcap see, and the command line with its JSON; nothing of the program's
// insides. It promises that what rightful says of a server is what real requests to that server say, that a repair
// cures what is broken and changes nothing else, and that what was done can be taken back exactly, whatever happens
// meanwhile. It refuses to judge the program by the program: every verdict is held against Apache and the file system.
package replay
