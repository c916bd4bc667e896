// In Iceberg's own package: what its test catalog is made of is not public.
package org.apache.iceberg.rest

import java.io.FileReader
import java.net.InetSocketAddress
import java.util.{Map => JavaMap, Properties}
import java.util.function.Consumer
import scala.jdk.CollectionConverters._

import jakarta.servlet.http.{HttpServletRequest, HttpServletRequestWrapper, HttpServletResponse}
import org.apache.hadoop.conf.Configuration
import org.apache.iceberg.CatalogUtil
import org.apache.iceberg.rest.responses.ConfigResponse
import org.eclipse.jetty.ee10.servlet.{ServletContextHandler, ServletHolder}
import org.eclipse.jetty.http.UriCompliance
import org.eclipse.jetty.server.{HttpConfiguration, Server}

/** Iceberg's reference catalog over SQLite, on loopback only, below a prefix, for those who log in.
  *
  * The argument is a file of properties: those of Iceberg's JdbcCatalog, and `port`, `prefix`, `client`, `secret`,
  * `transactions` (false: one table in a commit), `include-credentials` (true: the store's key with each table).
  */
object Catalog {
  def main(arguments: Array[String]): Unit = {
    val properties = new Properties
    properties.load(new FileReader(arguments(0)))
    val options: JavaMap[String, String] = properties.asScala.asJava
    val catalog = CatalogUtil.buildIcebergCatalog("reference", options, new Configuration)
    val adapter = new Adapter(new RESTCatalogServer.CatalogContext(catalog, options))
    val handler = new ServletContextHandler()
    handler.addServlet(new ServletHolder(new Servlet(adapter, options)), "/*")
    handler.getServletHandler.setDecodeAmbiguousURIs(true)
    val server = new Server(new InetSocketAddress("127.0.0.1", options.get("port").toInt))
    server.setHandler(handler)
    // Namespaces of several levels have %1F in their paths.
    for (connector <- server.getConnectors; factory <- connector.getConnectionFactories.asScala) factory match {
      case http: HttpConfiguration.ConnectionFactory =>
        http.getHttpConfiguration.setUriCompliance(UriCompliance.UNSAFE)
      case _ =>
    }
    server.start()
    server.join()
  }
}

/** The configuration as larger catalogs give it: with a prefix, and with what there is. */
class Adapter(context: RESTCatalogServer.CatalogContext) extends RESTServerCatalogAdapter(context) {
  private val options = context.configuration
  private val missing = if (options.get("transactions") == "false") Set(Route.COMMIT_TRANSACTION) else Set.empty[Route]

  override def handleRequest[T <: RESTResponse](
      route: Route, variables: JavaMap[String, String], request: HTTPRequest, kind: Class[T],
      headers: Consumer[JavaMap[String, String]]
  ): T =
    if (route == Route.CONFIG) {
      val there = Route.values.toSeq.filterNot(missing).map(each => Endpoint.create(each.method.name, each.resourcePath))
      val answer = ConfigResponse.builder.withEndpoints(there.asJava).withOverride("prefix", options.get("prefix")).build
      RESTCatalogAdapter.castResponse(kind, answer)
    } else if (missing(route)) {
      throw new UnsupportedOperationException("this catalog commits one table at a time")
    } else super.handleRequest(route, variables, request, kind, headers)
}

class Servlet(adapter: RESTCatalogAdapter, options: JavaMap[String, String]) extends RESTCatalogServlet(adapter) {
  private val prefix = options.get("prefix")
  private val token = java.util.UUID.randomUUID.toString

  override def service(request: HttpServletRequest, response: HttpServletResponse): Unit = {
    val path = request.getRequestURI
    if (path == "/v1/oauth/tokens") login(request, response)
    else if (request.getHeader("Authorization") != s"Bearer $token") response.sendError(401)
    else if (path == "/v1/config") super.service(request, response)
    else if (!path.startsWith(s"/v1/$prefix/")) response.sendError(404)
    else super.service(new Inside(request), response)
  }

  private def login(request: HttpServletRequest, response: HttpServletResponse): Unit = {
    val basic = Option(request.getHeader("Authorization")).filter(_.startsWith("Basic ")).map(each =>
      new String(java.util.Base64.getDecoder.decode(each.drop(6)), "UTF-8"))
    val given = basic.getOrElse(s"${request.getParameter("client_id")}:${request.getParameter("client_secret")}")
    val right = given == s"${options.get("client")}:${options.get("secret")}"
    response.setStatus(if (right) 200 else 401)
    response.setContentType("application/json")
    response.getWriter.write(
      if (right) s"""{"access_token": "$token", "token_type": "bearer", "expires_in": 3600}"""
      else """{"error": "invalid_client", "error_description": "nobody of that name and secret"}"""
    )
  }

  /** What is asked for without the prefix, which the adapter knows nothing of. */
  private class Inside(request: HttpServletRequest) extends HttpServletRequestWrapper(request) {
    private def inside(path: String) = path.replaceFirst(s"/v1/$prefix/", "/v1/")
    override def getRequestURI: String = inside(super.getRequestURI)
    override def getPathInfo: String = inside(super.getPathInfo)
  }
}
