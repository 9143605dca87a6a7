package hostbox

import (
	"fmt"
	"strings"
)

// writeNginx writes the web configuration as Debian lays nginx out. The sites differ in how they look for files: some
// answer what is not there from index.php, some with 404, some look before they hand a script to PHP.
func (w *world) writeNginx(m *image) {
	const etc = "/etc/nginx"
	m.system(etc+"/nginx.conf", 0o644, `user www-data;
worker_processes 2;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events {
	worker_connections 256;
}
http {
	include mime.types;
	default_type application/octet-stream;
	types_hash_max_size 2048;
	server_names_hash_bucket_size 128;
	server_names_hash_max_size 65536;
	index index.php index.html;
	access_log /var/log/nginx/access.log;
	include /etc/nginx/sites-enabled/*;
}
`)
	m.system(etc+"/mime.types", 0o644, `types {
	text/html html htm;
	text/css css;
	text/plain txt;
	application/javascript js;
	image/png png;
	image/jpeg jpg jpeg;
	image/svg+xml svg;
	application/pdf pdf;
}
`)
	var params strings.Builder
	for _, p := range strings.Fields(`QUERY_STRING:query_string REQUEST_METHOD:request_method CONTENT_TYPE:content_type
		CONTENT_LENGTH:content_length SCRIPT_NAME:fastcgi_script_name REQUEST_URI:request_uri DOCUMENT_URI:document_uri
		DOCUMENT_ROOT:document_root SERVER_PROTOCOL:server_protocol REMOTE_ADDR:remote_addr SERVER_ADDR:server_addr
		SERVER_PORT:server_port SERVER_NAME:server_name`) {
		name, variable, _ := strings.Cut(p, ":")
		params.WriteString("fastcgi_param " + name + " $" + variable + ";\n")
	}
	m.system(etc+"/fastcgi_params", 0o644, params.String()+"fastcgi_param REDIRECT_STATUS 200;\n")
	m.root(etc + "/sites-enabled")
	m.system(etc+"/sites-available/default", 0o644, "server {\n\tlisten 80 default_server;\n\tserver_name _;\n\troot /var/www/html;\n}\n")
	m.link(etc+"/sites-enabled/default", "../sites-available/default")
	for _, a := range w.accounts {
		for _, s := range a.sites {
			m.system(etc+"/sites-available/"+s.host, 0o644, w.nginxHost(a, s))
			m.link(etc+"/sites-enabled/"+s.host, "../sites-available/"+s.host)
		}
	}
}

func (w *world) nginxHost(a *account, s *site) string {
	var plain strings.Builder
	for _, l := range w.listens(s) {
		plain.WriteString("\tlisten " + strings.TrimPrefix(l, ":") + ";\n")
	}
	names := "\tserver_name " + strings.Join(s.domains(), " ") + ";\n"
	listen, moved := plain.String(), ""
	switch {
	case s.moved:
		moved = "server {\n" + listen + names + "\treturn 301 https://$host$request_uri;\n}\n"
		listen = "\tlisten 443 ssl;\n"
	case s.tls:
		listen += "\tlisten 443 ssl;\n"
	}
	if s.tls {
		names += "\tssl_certificate " + certFile + ";\n\tssl_certificate_key " + certFile + ";\n"
	}
	try, look := "", ""
	switch a.name {
	case "erin":
		try = "\tlocation / {\n\t\ttry_files $uri $uri/ =404;\n\t}\n"
	case "judy":
		try = "\tlocation / {\n\t\ttry_files $uri $uri/ /index.php?$args;\n\t}\n"
	case "ivan":
		look = "\t\ttry_files $uri =404;\n"
	}
	return moved + fmt.Sprintf(`server {
%[1]s%[2]s	root %[3]q;
	access_log /var/log/nginx/%[4]s-access.log;
	error_log /var/log/nginx/%[4]s-error.log;
	location ~ /\.ht|/\.env|\.sql$ {
		deny all;
	}
	location ^~ /cgi-bin/ {
		return 403; # nothing is run here since the server left Apache
	}
%[5]s	location /wp/ {
		try_files $uri $uri/ /wp/index.php?$args;
	}
	location ~ \.php$ {
%[6]s		include fastcgi_params;
		fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
		fastcgi_pass unix:%[7]s;
	}
}
`, listen, names, s.docroot, s.host, try, look, a.socket())
}
