// Package web is what a web server does with a path: who it is, which virtual host answers for which document root,
// and which process runs what is below it.
//
// It knows the configuration of Apache 2.4, of nginx and of PHP-FPM pools as files, the identities of running workers, and
// the answers of the local server to real requests.
//
// It promises that a configuration is read through [tree.Server] only, so that another server's root works like one's
// own; that reading is bounded whatever the files say (depth of includes, number of files and directives); that what
// was not understood is reported with its file and line and never guessed; and that requests go to addresses of this
// machine only.
//
// It refuses to change anything, to look up names, and to follow a redirect to another site.
package web
