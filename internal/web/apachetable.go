package web

import "strings"

// htaccessKind says what a directive that may stand in a .htaccess needs: one of the classes of AllowOverride, and the
// module that brings it ("" for the core). From the directive index of Apache 2.4.
type htaccessKind struct {
	class  overrides
	module string
}

// htaccessDirectives has every directive of Apache 2.4, mod_php and mod_fcgid that a .htaccess may hold.
var htaccessDirectives = htaccessTable(map[string]string{
	"All core": `files filesmatch if elseif else limitrequestbody limitxmlrequestbody rlimitcpu rlimitmem rlimitnproc
		serversignature error ssilegacyexprparser`,
	"FileInfo core": `acceptpathinfo adddefaultcharset defaulttype enablemmap enablesendfile errordocument fileetag forcetype
		qualifyredirecturl scriptinterpretersource sethandler setinputfilter setoutputfilter cgivar`,
	"Options core":               `options contentdigest`,
	"Limit,AuthConfig core":      `limit limitexcept`,
	"AuthConfig core":            `cgipassauth`,
	"Limit access_compat":        `order allow deny`,
	"AuthConfig access_compat":   `satisfy`,
	"FileInfo actions":           `action`,
	"FileInfo alias":             `redirect redirectmatch redirectpermanent redirecttemp`,
	"AuthConfig auth_basic":      `authbasicauthoritative authbasicfake authbasicprovider authbasicusedigestalgorithm`,
	"AuthConfig auth_digest":     `authdigestalgorithm authdigestdomain authdigestnoncelifetime authdigestprovider authdigestqop`,
	"AuthConfig authn_core":      `authname authtype`,
	"AuthConfig authn_dbm":       `authdbmtype authdbmuserfile`,
	"AuthConfig authn_file":      `authuserfile`,
	"AuthConfig authz_groupfile": `authgroupfile`,
	"AuthConfig authz_dbm":       `authdbmgroupfile authzdbmtype`,
	"AuthConfig authn_socache":   `authncacheprovidefor authncachetimeout`,
	"AuthConfig authz_core":      `require requireall requireany requirenone authmerging authzsendforbiddenonfailure`,
	"AuthConfig authz_dbd":       `authzdbdquery authzdbdredirectquery authzdbdlogintoreferer`,
	"Indexes autoindex":          `addalt addaltbyencoding addaltbytype adddescription addicon addiconbyencoding addiconbytype defaulticon headername indexheadinsert indexignore indexignorereset indexoptions indexorderdefault indexstylesheet readmename`,
	"All cache":                  `cachedisable`,
	"Indexes cern_meta":          `metadir metafiles metasuffix`,
	"FileInfo charset_lite":      `charsetdefault charsetoptions charsetsourceenc`,
	"All deflate":                `deflateinflatelimitrequestbody deflateinflateratioburst deflateinflateratiolimit`,
	"Indexes dir":                `directoryindex directoryslash directoryindexredirect directorycheckhandler fallbackresource`,
	"FileInfo env":               `passenv setenv unsetenv`,
	"Indexes expires":            `expiresactive expiresbytype expiresdefault`,
	"Options filter":             `filterdeclare filterchain filterprovider filterprotocol`,
	"FileInfo filter":            `addoutputfilterbytype`,
	"FileInfo headers":           `header requestheader`,
	"Indexes imagemap":           `imapbase imapdefault imapmenu`,
	"All include":                `ssierrormsg ssitimeformat ssiundefinedecho`,
	"Options include":            `xbithack`,
	"Indexes include":            `ssietag ssilastmodified`,
	"FileInfo mime":              `addcharset addencoding addhandler addinputfilter addlanguage addoutputfilter addtype defaultlanguage multiviewsmatch removecharset removeencoding removehandler removeinputfilter removelanguage removeoutputfilter removetype`,
	"FileInfo negotiation":       `forcelanguagepriority languagepriority`,
	"FileInfo rewrite":           `rewritebase rewritecond rewriteengine rewriteoptions rewriterule`,
	"FileInfo setenvif":          `browsermatch browsermatchnocase setenvif setenvifnocase setenvifexpr`,
	"Options speling":            `checkspelling checkcaseonly`,
	"AuthConfig ssl":             `sslciphersuite sslrenegbuffersize sslrequire sslrequiressl sslusername sslverifyclient sslverifydepth`,
	"Options ssl":                `ssloptions`,
	"FileInfo substitute":        `substitute substitutemaxlinelength`,
	"FileInfo usertrack":         `cookiedomain cookieexpires cookiename cookiestyle cookietracking`,
	"Options php":                `php_value php_flag`,
	"FileInfo fcgid":             `fcgidwrapper fcgidaccesschecker fcgidaccesscheckerauthoritative fcgidauthenticator fcgidauthenticatorauthoritative fcgidauthorizer fcgidauthorizerauthoritative`,
	"AuthConfig session":         `session sessionmaxage sessionheader sessioninclude sessionexclude sessionenv sessionexpiryupdateinterval`,
	"FileInfo lua":               `luahookaccesschecker luahookauthchecker luahookcheckuserid luahookfixups luahookinsertfilter luahooklog luahookmaptostorage luahooktranslatename luahooktypechecker luamaphandler luainherit luapackagepath luapackagecpath luascope`,
	"All lua":                    `luaroot`,
	"AuthConfig authnz_fcgi":     `authnzfcgicheckauthnprovider`,
	"FileInfo isapi":             `isapiappendlogtoerrors isapiappendlogtoquery isapifakeasync isapilognotsupported isapireadaheadbuffer`,
	"FileInfo sed":               `inputsed outputsed`,
	"AuthConfig session_cookie":  `sessioncookiename sessioncookiename2 sessioncookieremove sessioncookiemaxage`,
	"Options suphp":              `suphp_configpath`,
})

// htaccessPrefixes are modules with many directives that all begin alike.
var htaccessPrefixes = [...]struct {
	prefix string
	htaccessKind
}{
	{"authform", htaccessKind{allowAuth, "auth_form_module"}},
	{"anonymous", htaccessKind{allowAuth, "authn_anon_module"}},
	{"authldap", htaccessKind{allowAuth, "authnz_ldap_module"}},
}

func htaccessTable(in map[string]string) map[string]htaccessKind {
	out := map[string]htaccessKind{}
	for key, names := range in {
		classes, module, _ := strings.Cut(key, " ")
		var k htaccessKind
		for _, c := range strings.Split(classes, ",") {
			k.class |= overrideNames[strings.ToLower(c)]
		}
		if module != "core" {
			k.module = module + "_module"
		}
		for _, n := range strings.Fields(names) {
			out[n] = k
		}
	}
	return out
}

// serverDirectives exist, and are an error in a .htaccess.
var serverDirectives = wordSet(`directory directorymatch location locationmatch virtualhost proxy proxymatch documentroot servername
	serveralias serverroot serveradmin alias aliasmatch scriptalias scriptaliasmatch allowoverride allowoverridelist accessfilename
	errorlog customlog transferlog loglevel logformat listen user group loadmodule proxypass proxypassmatch proxypassreverse
	proxyrequests rewritemap rewritelog suexecusergroup include includeoptional php_admin_value php_admin_flag phpinidir keepalive
	timeout sslengine sslcertificatefile sslcertificatekeyfile sslprotocol dav userdir macro use serverpath hostnamelookups
	servertokens traceenable usecanonicalname limitrequestfields limitrequestline maxrequestworkers pidfile typesconfig
	scriptlog scriptsock suphp_engine suphp_usergroup assignuserid rmode ruidgid fcgidinitialenv`)

// knownModules are those of Apache 2.4 whose directives are in the tables above, or that have none for a .htaccess.
var knownModules = wordSet(`access_compat actions alias allowmethods asis auth_basic auth_digest auth_form authn_anon authn_core authn_dbd
	authn_dbm authn_file authn_socache authnz_fcgi authnz_ldap authz_core authz_dbd authz_dbm authz_groupfile authz_host authz_owner
	authz_user autoindex brotli buffer cache cache_disk cache_socache cern_meta cgi cgid charset_lite data dav dav_fs dav_lock dbd
	deflate dir dumpio echo env expires ext_filter fcgid file_cache filter headers heartbeat heartmonitor http2 ident imagemap include
	info lbmethod_bybusyness lbmethod_byrequests lbmethod_bytraffic lbmethod_heartbeat ldap log_config log_debug log_forensic logio lua
	macro md mime mime_magic mpm_event mpm_itk mpm_prefork mpm_worker negotiation proxy proxy_ajp proxy_balancer proxy_connect
	proxy_express proxy_fcgi proxy_fdpass proxy_ftp proxy_hcheck proxy_html proxy_http proxy_http2 proxy_scgi proxy_uwsgi
	proxy_wstunnel ratelimit reflector remoteip reqtimeout request rewrite ruid2 sed session session_cookie session_crypto session_dbd
	setenvif slotmem_plain slotmem_shm socache_dbm socache_memcache socache_redis socache_shmcb speling ssl status substitute suexec
	suphp systemd unique_id unixd userdir usertrack version vhost_alias watchdog xml2enc so http core`)

func wordSet(s string) map[string]bool {
	out := map[string]bool{}
	for _, w := range strings.Fields(s) {
		out[w] = true
	}
	return out
}
