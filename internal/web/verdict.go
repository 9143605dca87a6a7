package web

import (
	"rightful"
	"rightful/internal/tree"
)

// A Verdict is the predicted answer to GET for one URL, asked by anybody without a password, and the first thing that
// decides it. The zero Verdict is not one. A verdict that serves a file costs no allocation: its other fields are empty.
type Verdict struct {
	// Status is the HTTP status, and the likeliest one where it is not Certain; 0 where nothing can be said.
	Status int
	// Statuses is the possible set where the status is not certain, ascending; nil where it is, or where it may be any.
	Statuses []int
	Certain  bool
	// App: the server hands the path to a program (PHP, CGI) and that would be run; what it then says is its own affair.
	App   bool
	Cause Cause
	// Code is the mark that the error log will carry, "" for an answer that leaves none. An Apache message has its number
	// ("AH00132"). Others have a word of ours, stable, of the form WHO:WHAT:
	//
	//	suexec:N                      suEXEC refuses, with its exit code N (support/suexec.c)
	//	fpm:primary-script-unknown    PHP cannot get to the script          (404)
	//	fpm:unable-to-open            PHP cannot open it                    (403)
	//	fpm:limit-extensions          its suffix is not one that is run     (403)
	//	fpm:no-input-file             the same as the first, by php-cgi     (404, no line in any log)
	//	php:failed-opening            mod_php cannot open it                (500)
	//	suphp:WHAT                    suPHP refuses
	//	fcgid:exec-cgi                mod_fcgid lacks Options ExecCGI       (403)
	//	htaccess:config               a line of .htaccess is an error       (500, [core:alert] without a number)
	//	cgi:exec                      the program is not started            (500)
	//	itk:ids                       mpm_itk may not become the site's user (500)
	//	cpanel:symlink-protect        not of the document root's owner      (404)
	//	litespeed:open, litespeed:mask
	//	                              LiteSpeed cannot open it, or its permission masks refuse it (403)
	//	nginx:open, nginx:opendir, nginx:stat, nginx:openat, nginx:forbidden, nginx:not-found, nginx:not-regular,
	//	nginx:index, nginx:connect    nginx's own messages, by what failed
	//	nginx:rule                    access forbidden by rule              (403)
	//	nginx:cycle, nginx:no-location, nginx:alias, nginx:rewrite
	//	                              a mistake in the configuration        (500)
	Code string
	// Culprit is the absolute path of the entry to blame, as it lies on the server with links above it resolved; "" where
	// no entry is.
	Culprit string
	// Identity is who lacks Need (rwx as 4, 2, 1) on Culprit; nil where nobody lacks anything.
	Identity *rightful.Identity
	Need     uint8
	// Why says in a few words what decides, for a person; "" where the file is simply served.
	Why string
	// File and Line are where the configuration decides, "" and 0 where it does not.
	File string
	Line int
}

// Cause is the kind of thing that decides a verdict.
type Cause uint8

// The causes. Only faults (see [Cause.Fault]) are findings.
const (
	// CauseNone: it is served.
	CauseNone Cause = iota
	// CausePermission: owner, group, mode or ACL of an entry.
	CausePermission
	// CauseLink: a link that may not be followed, or whose target cannot be reached.
	CauseLink
	// CauseMissing: there is nothing (404), or a link leads nowhere.
	CauseMissing
	// CauseConfigured: somebody said so: Require all denied, no index and no listing, a redirect, a rewrite rule.
	CauseConfigured
	// CauseApplication: the program itself, or how it is written (no interpreter).
	CauseApplication
	// CauseUnknown: Why says what is not known.
	CauseUnknown
)

var causeNames = [...]string{"none", "permission", "link", "missing", "configured", "application", "unknown"}

// String is the name used in JSON.
func (c Cause) String() string { return causeNames[c] }

// MarshalText implements encoding.TextMarshaler.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Fault reports whether the answer is nobody's wish, and changing an entry would cure it.
func (c Cause) Fault() bool { return c == CausePermission || c == CauseLink }

// Served reports whether a visitor gets what is asked for.
func (v *Verdict) Served() bool { return v.Status == 200 }

// A Node is an entry as lstat(2) and its ACLs tell it.
type Node struct {
	Kind rightful.Kind
	Meta rightful.Meta
}

// A View shows an engine what lies in one directory ahead of the walk: in the world as it is, or as a plan would make it.
// Names are single components. Nothing is changed or, but for Head, opened.
type View interface {
	// Lstat gives an entry of the directory; ok is false where there is none.
	Lstat(name string) (n Node, ok bool)
	// Follow gives every step from "/" to what a path leads to, links followed. A path that is not absolute begins in the
	// directory. On an error the steps up to there are given too.
	Follow(path string) ([]tree.Component, error)
	// Head reads up to n bytes of a regular file in the directory, never through a link.
	Head(name string, n int64) ([]byte, error)
	// Links gives the names of the links in the directory; ok is false where that is not known.
	Links() (names []string, ok bool)
}

// A Host is one virtual host: what its configuration and the identities that serve it make of what lies below its
// document root. It belongs to one goroutine.
type Host interface {
	// Root is the scope of the document root, everything on the way to it decided. in shows the document root.
	Root(in View) Scope
	// URL is the verdict on any request path, decoded and without a query. in shows the document root.
	URL(path string, in View) Verdict
	// Notes are what an operator should know of the whole site, such as a module that decides by contents.
	Notes() []string
}

// A Scope is what has been decided by the time a server stands in one directory: the settings that apply there, and
// whether everything down to here may be passed, and if not, what refuses all beneath. It does not change.
//
// Who asks for two states of the world asks once where they do not differ: scopes that are the same give an equal file
// the same verdict (but a link, whose target is elsewhere), and an equal subdirectory without files of settings of its
// own (.htaccess) the same scope.
type Scope interface {
	// Same reports whether o, of the same host and directory, is equal.
	Same(o Scope) bool
	// Dir is the scope of a subdirectory. in shows that subdirectory.
	Dir(name string, m rightful.Meta, in View) Scope
	// File is the verdict on an entry of the directory that is not a directory itself. in shows the directory. The name
	// is not kept.
	File(name []byte, n Node, in View) Verdict
	// Index is the verdict on the directory, asked for with a slash at the end. in shows the directory.
	Index(in View) Verdict
}
