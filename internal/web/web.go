// Package web is what a web server does with a path: who it is, which virtual host answers for which document root,
// and which process runs what is below it.
//
// It knows the configuration of Apache 2.4, of nginx and of PHP-FPM pools as files, the identities of running workers,
// what lines of their logs say about access, and the answers of the local server to real requests. For any path below a
// document root it says what the server would answer, who lacks what on which entry, and where the configuration decides:
// the [Verdict]. docs/verdict.md has the procedure.
//
// It promises that a configuration is read through [tree.Server] only, so that another server's root works like one's
// own; that reading is bounded whatever the files say (depth of includes, number of files and directives); that what
// was not understood is reported with its file and line and never guessed; and that requests go to addresses of this
// machine only. A verdict is certain only where nothing that is not looked into could make another; of a customer's tree it
// stats, and opens nothing but .htaccess files and the first line of CGI scripts, never through a link.
//
// It refuses to change anything, to look up names, and to follow a redirect to another site.
package web
