package replay

import (
	"path/filepath"
	"strings"
)

// The kinds of virtual host of the matrix, as in the table of observations that its rows come from.

// directory is a section for the document root.
func directory(options, override string, more ...string) string {
	return "<Directory \"@D\">\nOptions " + options + "\nAllowOverride " + override + "\nRequire all granted\n" +
		strings.Join(append(more, "</Directory>"), "\n")
}

// scripts hands PHP to whatever handler is named.
func scripts(handler string) string {
	return "\n<FilesMatch \"\\.php$\">\nSetHandler " + handler + "\n</FilesMatch>"
}

const (
	socket  = "/run/php/@U.sock"
	follow  = "FollowSymLinks"
	toPool  = "\"proxy:unix:" + socket + "|fcgi://localhost\""
	cgiHere = "AddHandler cgi-script .cgi"
)

func apacheHosts() map[string]host {
	std := directory(follow, "All")
	cgi := directory(follow+" ExecCGI", "All", cgiHere)
	suexec := "\nSuexecUserGroup @U @U"
	fcgid := func(dir, wrapper string) string {
		return dir + scripts("fcgid-script") + "\nFcgidWrapper " + wrapper + " .php" + suexec
	}
	return map[string]host{
		"std":        {vhost: std},
		"rootover":   {vhost: "<Directory />\nAllowOverride All\n</Directory>\n" + std},
		"far":        {vhost: std, home: "/home2/far/@U"},
		"none":       {vhost: directory(follow, "None")},
		"idx":        {vhost: directory(follow+" Indexes", "All")},
		"noneidx":    {vhost: directory(follow+" Indexes", "None")},
		"sio":        {vhost: directory("SymLinksIfOwnerMatch", "None")},
		"sioover":    {vhost: directory("SymLinksIfOwnerMatch", "All")},
		"both":       {vhost: directory("FollowSymLinks SymLinksIfOwnerMatch", "None")},
		"info":       {vhost: std + "\nLogLevel info"},
		"nosym":      {vhost: directory("None", "None")},
		"nosymover":  {vhost: directory("None", "All")},
		"neg":        {vhost: directory(follow+" MultiViews", "All")},
		"errdoc":     {vhost: std + "\nErrorDocument 403 /f0600.html"},
		"deny":       {vhost: strings.Replace(std, "granted", "denied", 1)},
		"denycompat": {vhost: strings.Replace(std, "Require all granted", "Order deny,allow\nDeny from all", 1)},
		"rw":         {vhost: std + "\nRewriteEngine On\nRewriteRule ^/ok - [F]"},
		"ovrfi":      {vhost: directory(follow, "FileInfo AuthConfig")},
		"ovrnf":      {vhost: directory(follow, "Nonfatal=Override FileInfo AuthConfig")},
		"ovrlist":    {vhost: directory(follow, "None", "AllowOverrideList Redirect")},
		"optix":      {vhost: directory(follow, "Options=Indexes,MultiViews")},
		"nodr":       {vhost: std, root: "@H/nosuch"},
		"lndr":       {vhost: std, home: "/home/ln-@U"},
		"lndrsio":    {vhost: "<Directory />\nOptions SymLinksIfOwnerMatch\n</Directory>\n" + directory("SymLinksIfOwnerMatch", "None"), home: "/home/ln-@U"},
		"lndrreal":   {vhost: strings.Replace(std, "@D", "/home/@U/public_html", 1), home: "/home/ln-@U"},
		"ssi":        {vhost: directory(follow+" Includes", "All", "AddOutputFilter INCLUDES .shtml")},

		"fpmh":      {vhost: std + scripts(toPool), pool: labPool},
		"fpmhif":    {vhost: std + "\n<FilesMatch \"\\.php$\">\n<If \"-f %{REQUEST_FILENAME}\">\nSetHandler " + toPool + "\n</If>\n</FilesMatch>", pool: labPool},
		"fpmm":      {vhost: std + "\nProxyPassMatch \"^/(.*\\.php(/.*)?)$\" \"unix:" + socket + "|fcgi://localhost@D/$1\"", pool: labPool},
		"fpmlock":   {vhost: std + scripts(toPool), pool: "listen.owner = root\nlisten.mode = 0600\n"},
		"fpmnosock": {vhost: std + scripts("\"proxy:unix:/run/php/nosuch.sock|fcgi://nosuch\"")},
		"fpmgrp":    {vhost: std + scripts(toPool), pool: labPool + "group = www-data\n"},
		"fpmchroot": {vhost: std + scripts(toPool), pool: labPool + "chroot = @H\n"},
		"fpmext":    {vhost: std + strings.Replace(scripts(toPool), "php", "phtml", 1), pool: labPool},
		"fpmmext":   {vhost: std + "\nProxyPassMatch \"^/(.*\\.ph.*)$\" \"unix:" + socket + "|fcgi://localhost@D/$1\"", pool: labPool},
		"fpmbase":   {vhost: std + scripts(toPool), pool: labPool + "php_admin_value[open_basedir] = /tmp\n"},
		"fpmcatch":  {vhost: std + scripts(toPool), pool: labPool + "catch_workers_output = yes\nphp_admin_value[error_log] = /var/log/lab/@U-php.log\n"},
		"fpmsio":    {vhost: directory("SymLinksIfOwnerMatch", "All") + scripts(toPool), pool: labPool},

		"cgi":      {vhost: cgi},
		"nocgi":    {vhost: directory(follow, "All", cgiHere)},
		"sux":      {vhost: cgi + suexec},
		"suxbob":   {vhost: cgi + "\nSuexecUserGroup bob bob"},
		"suxwww":   {vhost: cgi + "\nSuexecUserGroup www-data www-data"},
		"mixed":    {vhost: std + scripts(toPool) + mixed, pool: labPool},
		"suxvw":    {vhost: cgi + suexec, root: "/var/www/@U"},
		"suxout":   {vhost: cgi + suexec, root: "/srv/www/@U"},
		"salias":   {vhost: std + "\nScriptAlias /cgi-bin/ @D/cgi-bin/" + suexec},
		"fcgid":    {vhost: fcgid(directory(follow+" ExecCGI", "All"), "@H/fcgi-bin/php-wrapper")},
		"fcgidnox": {vhost: fcgid(std, "@H/fcgi-bin/php-wrapper")},
	}
}

// phpVersion is that of mod_php, "" where there is none.
func phpVersion() string {
	found, _ := filepath.Glob("/usr/lib/apache2/modules/libphp[0-9]*.so")
	if len(found) == 0 {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(found[len(found)-1]), "libphp"), ".so")
}

// apacheConf is the configuration of a server with some modules.
func apacheConf(modules, more string) string {
	var b strings.Builder
	for _, m := range strings.Fields(modules + ` authn_core authn_file authz_core authz_host authz_user access_compat auth_basic alias autoindex dir
		env expires filter headers include mime negotiation reqtimeout rewrite setenvif`) {
		file := "mod_" + m
		switch m {
		case "mpm_itk":
			file = m
		case "php":
			file = "libphp" + phpVersion()
		}
		b.WriteString("LoadModule " + m + "_module /usr/lib/apache2/modules/" + file + ".so\n")
	}
	return b.String() + `DefaultRuntimeDir ${APACHE_RUN_DIR}
PidFile ${APACHE_PID_FILE}
ServerName box
User ${APACHE_RUN_USER}
Group ${APACHE_RUN_GROUP}
ErrorLog /var/log/apache2/error.log
LogLevel warn
Listen 80
TypesConfig /etc/mime.types
DirectoryIndex index.html index.php
MaxKeepAliveRequests 0
<Directory />
Options FollowSymLinks
AllowOverride None
Require all denied
</Directory>
<FilesMatch "^\.ht">
Require all denied
</FilesMatch>
<VirtualHost *:80>
ServerName nobody.example
DocumentRoot /var/www/html
</VirtualHost>
` + more
}

func event() *setup {
	return &setup{server: "apache", hosts: apacheHosts(), conf: apacheConf("mpm_event cgid suexec proxy proxy_fcgi fcgid", `ScriptSock ${APACHE_RUN_DIR}/cgisock
StartServers 1
ServerLimit 2
ThreadsPerChild 25
MaxRequestWorkers 50
FcgidIPCDir ${APACHE_RUN_DIR}/fcgid
FcgidProcessTableFile ${APACHE_RUN_DIR}/fcgid_shm
FcgidSpawnScoreUpLimit 1000000
`)}
}

// mixed is what administrators put into virtual hosts, all at once.
const mixed = `
Alias /pics/ "@D/img/"
ScriptAlias /cgi-bin/ "@D/cgi-bin/"
<LocationMatch "/\.(env|git)">
Require all denied
</LocationMatch>
<Location "/noidx/">
Options +Indexes
</Location>
<Directory "@D/sub">
Options -FollowSymLinks +SymLinksIfOwnerMatch
DirectoryIndex a.html
</Directory>
<DirectoryMatch "/deep(/|$)">
AllowOverride None
</DirectoryMatch>
<FilesMatch "\.(bak|sql)$">
Require all denied
</FilesMatch>
Redirect 301 /d/ https://elsewhere.example/
ErrorDocument 404 /ok.html
RewriteEngine On
RewriteCond %{HTTPS} on
RewriteRule ^ - [F]`

// small keeps prefork small.
const small = "StartServers 2\nMinSpareServers 1\nMaxSpareServers 4\nMaxRequestWorkers 8\n"

// prefork runs PHP in its own workers.
func prefork() *setup {
	php := scripts("application/x-httpd-php") + "\nphp_admin_value realpath_cache_size 0\nphp_admin_flag log_errors on\nphp_admin_flag display_errors "
	run := directory(follow+" ExecCGI", "All", cgiHere)
	return &setup{server: "apache", conf: apacheConf("mpm_prefork cgi suexec php", small), hosts: map[string]host{
		"php":   {vhost: run + php + "off"},
		"phpde": {vhost: run + php + "on"},
		"sux":   {vhost: run + "\nSuexecUserGroup @U @U"},
	}}
}

// itk lets each worker become the virtual host's user.
func itk() *setup {
	php := scripts("application/x-httpd-php") + "\nphp_admin_value realpath_cache_size 0\nphp_admin_flag log_errors on\nphp_admin_flag display_errors off"
	run := directory(follow+" ExecCGI", "All", cgiHere) + php
	return &setup{server: "apache", conf: apacheConf("mpm_prefork mpm_itk cgi php", small+"KeepAlive Off\nLimitUIDRange 33 60000\nLimitGIDRange 33 60000\n"), hosts: map[string]host{
		"itk":    {vhost: run + "\nAssignUserID @U @U"},
		"itkwww": {vhost: run},
		"itklow": {vhost: run + "\nAssignUserID daemon daemon"},
		"itkbob": {vhost: run + "\nAssignUserID bob bob"},
	}}
}

func nginx() *setup {
	pool := func(look string) string {
		return "location ~ \\.php {\n" + look + "include fastcgi_params;\nfastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;\nfastcgi_pass unix:" + socket + ";\n}"
	}
	to := func(lines string) host { return host{vhost: lines} }
	php := func(lines string) host { return host{vhost: lines, pool: labPool} }
	return &setup{server: "nginx", hosts: map[string]host{
		"std":     to(""),
		"far":     {home: "/home2/far/@U"},
		"auto":    to("autoindex on;"),
		"tryf":    to("location / {\ntry_files $uri $uri/ =404;\n}"),
		"tryphp":  php("location / {\ntry_files $uri $uri/ /index.php?$args;\n}\n" + pool("")),
		"php":     php(pool("")),
		"phptry":  php(pool("try_files $uri =404;\n")),
		"phplock": {vhost: pool(""), pool: "listen.owner = root\nlisten.mode = 0600\n"},
		"phpno":   to(pool("")),
		"dson":    to("disable_symlinks on from=$document_root;"),
		"dsall":   to("disable_symlinks on;"),
		"dsino":   to("disable_symlinks if_not_owner;"),
		"iff":     to("if (!-f $request_filename) {\nreturn 404;\n}"),
		"auth":    to("auth_basic closed;\nauth_basic_user_file @D/f0600.html;"),
		"deny":    to("deny all;"),
		"ret":     to("location /ok {\nreturn 403;\n}"),
		"ofc":     to("open_file_cache max=100;\nopen_file_cache_valid 300s;\nopen_file_cache_errors on;"),
		"wp": php("location / {\ntry_files $uri $uri/ /index.php?$args;\n}\nlocation ~* \\.(css|js|png)$ {\nexpires max;\nlog_not_found off;\n}\n" +
			"location ~ /\\. {\ndeny all;\n}\nlocation = /robots.txt {\nallow all;\n}\n" + pool("try_files $uri =404;\n")),
		"spa":   to("location / {\ntry_files $uri $uri/ /index.html;\n}\nlocation /sub/ {\nautoindex on;\n}\nlocation ^~ /d/ {\ntry_files $uri /ok.html =403;\n}"),
		"page":  to("error_page 404 /ok.html;\nerror_page 403 =200 /ok.html;\nlocation ~ \\.txt$ {\nroot @D/sub;\n}\nlocation = / {\nindex ok.html;\n}"),
		"alias": to("location /else/ {\nalias @H/else/;\n}"),
		"lndr":  {vhost: "disable_symlinks on from=$document_root;", home: "/home/ln-@U"},
	}, conf: `user www-data;
worker_processes 2;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events {
worker_connections 256;
}
http {
include mime.types;
default_type application/octet-stream;
server_names_hash_bucket_size 128;
server_names_hash_max_size 65536;
types_hash_max_size 2048;
index index.html index.php;
access_log off;
keepalive_requests 1000000;
server {
listen 80 default_server;
server_name _;
root /var/www/html;
}
`}
}
