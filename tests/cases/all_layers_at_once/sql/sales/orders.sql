SELECT :day AS day, :dya AS other
